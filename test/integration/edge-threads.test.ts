/** The ext_proc address served by threads of its own, over real connections. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import grpc from "@grpc/grpc-js";
import { service as healthService } from "grpc-health-check";
import { afterEach, describe, expect, it } from "vitest";
import { type Edge, startEdge } from "../../src/app/edge.ts";
import { configSchema } from "../../src/config/schema.ts";
import { endpointId } from "../../src/core/ids.ts";
import type { Log } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { seededRandom } from "../../src/core/random.ts";
import type { ProcessingRequest } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse__Output } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import { loadExtProcPackage, PROCESS_PATH } from "../../src/extproc/grpc-definition.ts";
import { certificateAuthority, isOpensslMissing, servedName } from "../harness/certificates.ts";
import {
  bodyMessage,
  headersMessage,
  responseBody,
  responseHeaders,
} from "../harness/ext-proc-messages.ts";
import { specOf } from "../harness/fleet-values.ts";
import { MODEL, type Router, recordOf, routerOf } from "../harness/read-side-router.ts";
import { waitUntil } from "../harness/wait-until.ts";

const PODS = ["10.0.0.1:8000", "10.0.0.2:8000"].map((address) => endpointId(address));
/** So many that both threads have some. */
const CONNECTIONS = 24;
const PROMPT = Array.from({ length: 320 }, (_, at) => at);
const ANY = "127.0.0.1:0";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Started {
  readonly edge: Edge;
  readonly router: Router;
  readonly threads: readonly Worker[];
  readonly lines: string[];
  readonly inFlight: () => number;
}

async function start(extProc: object = {}): Promise<Started> {
  const router = await routerOf(PODS.map((id) => specOf(id)));
  const threads: Worker[] = [];
  const onThread = (worker: Worker): void => void threads.push(worker);
  process.on("worker", onThread);
  cleanups.push(() => process.off("worker", onThread));
  const lines: string[] = [];
  const say = (_: object, message: string): void => void lines.push(message);
  const log: Log = { debug: () => {}, info: say, warn: say, error: say };
  const places = { listen: ANY, healthListen: ANY, drainNoticeMs: 0, deadlineMs: 5000 };
  const config = configSchema.parse({
    ...{ model: MODEL, prompt: { tokenize: "off" } },
    extProc: { ...places, workers: 2, ...extProc },
  });
  const edge = await startEdge(config, {
    ...{ clock: nodeClock, random: seededRandom(1), log, meter: router.meter },
    ...{ picker: router.picker, decider: router.decider, prompt: router.prompt },
    followed: { told: () => ({ ready: PODS, whole: PODS }) },
  });
  cleanups.push(() => edge.server.stop());
  const inFlight = (): number =>
    PODS.reduce((sum, id) => sum + router.fleet.ledger.load(id).requests, 0);
  return { edge, router, threads, lines, inFlight };
}

/** A gateway with a connection of its own. */
function connect({ edge }: Started, credentials = grpc.credentials.createInsecure()): grpc.Client {
  const options = { "grpc.use_local_subchannel_pool": 1 };
  const client = new grpc.Client(edge.server.address, credentials, options);
  cleanups.push(() => client.close());
  return client;
}

interface Exchange {
  /** Of the gRPC call, when it is over. */
  readonly code: Promise<number>;
  /** Sends the answer's phases; resolves with the code. */
  readonly finish: () => Promise<number>;
  readonly cancel: () => void;
}

const { definition } = loadExtProcPackage();
const USAGE = { prompt_tokens: 320, completion_tokens: 1 };

/** One request; resolves when its body has come back. */
function open(client: grpc.Client, requestId: string, answer = true): Promise<Exchange> {
  const { requestSerialize, responseDeserialize } = definition.Process;
  const stream = client.makeBidiStreamRequest<ProcessingRequest, ProcessingResponse__Output>(
    PROCESS_PATH,
    requestSerialize,
    responseDeserialize,
  );
  const body = Buffer.from(JSON.stringify({ model: MODEL, prompt: PROMPT, max_tokens: 1 }));
  stream.on("error", () => {});
  const code = new Promise<number>((resolve) => {
    stream.on("status", (status) => resolve(status.code));
  });
  const exchange: Exchange = {
    code,
    finish: () => {
      stream.write(responseHeaders());
      stream.write(responseBody(JSON.stringify({ usage: USAGE }), true));
      stream.on("data", ({ response_body: chunk }: ProcessingResponse__Output) => {
        if (chunk !== undefined) stream.end();
      });
      return code;
    },
    cancel: () => stream.cancel(),
  };
  stream.write(headersMessage({ "x-request-id": requestId }, { request: "FULL_DUPLEX_STREAMED" }));
  stream.write(bodyMessage(body, true));
  if (!answer) return Promise.resolve(exchange);
  return new Promise((resolve, reject) => {
    void code.then((ended) => reject(new Error(`ended with ${ended}`)));
    stream.on("data", ({ request_body: chunk }: ProcessingResponse__Output) => {
      const piece = chunk?.response?.body_mutation?.streamed_response;
      if (piece?.end_of_stream === true) resolve(exchange);
    });
  });
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const clientsOf = (started: Started): grpc.Client[] =>
  Array.from({ length: CONNECTIONS }, () => connect(started));

function openAll(clients: readonly grpc.Client[], round: string): Promise<Exchange[]> {
  return Promise.all(clients.map((client, at) => open(client, `${round}-${at}`)));
}

describe("serving threads", () => {
  it("share one address, and are decided for in one place, which counts all once", async () => {
    const started = await start();
    const { edge, router, inFlight } = started;
    const clients = clientsOf(started);
    for (const round of ["first", "second"]) {
      const exchanges = await openAll(clients, round);
      expect(inFlight()).toBe(CONNECTIONS);
      const codes = await Promise.all(exchanges.map(({ finish }) => finish()));
      expect(new Set(codes)).toEqual(new Set([grpc.status.OK]));
      await waitUntil("all have ended", () => inFlight() === 0);
    }
    await edge.report();
    const requests = 2 * CONNECTIONS;
    const { meter } = router;
    expect(meter.total("kvatlas_decisions_total", { outcome: "routed" })).toBe(requests);
    expect(meter.total("kvatlas_extproc_streams_total", { outcome: "complete" })).toBe(requests);
    expect(meter.total("kvatlas_extproc_streams_total")).toBe(requests);
    expect(meter.total("kvatlas_prompt_requests_total", { source: "given" })).toBe(requests);
    expect(meter.observed("kvatlas_decision_seconds")).toHaveLength(requests);
    expect(meter.observed("kvatlas_ttft_seconds")).toHaveLength(requests);
    // No events are heard: what was answered is assumed, whichever thread has served it.
    for (let at = 0; at < CONNECTIONS; at += 1) {
      expect(recordOf(router, `second-${at}`)?.chosen.reusedTokens).toBe(319);
    }
  });

  it("book and release exactly once, wherever a request is given up", async () => {
    const started = await start();
    const { edge, router, inFlight } = started;
    const clients = clientsOf(started);
    const random = seededRandom(7);
    const codes: Promise<number>[] = [];
    for (let number = 0; number < 600; number += 1) {
      const client = clients[number % CONNECTIONS] ?? connect(started);
      const fate = random.next();
      const exchange = await open(client, `r${number % 40}`, fate > 0.6);
      if (fate > 0.8) codes.push(exchange.finish());
      else {
        // grpc-js sends a call that is cancelled at once, and never resets it.
        await turn();
        if (fate < 0.3) await turn();
        exchange.cancel();
      }
    }
    expect(new Set(await Promise.all(codes))).toEqual(new Set([grpc.status.OK]));
    await waitUntil("no booking is left", () => inFlight() === 0 && edge.server.openStreams === 0);
    await edge.report();
    const ended = (outcome: string): number =>
      router.meter.total("kvatlas_extproc_streams_total", { outcome });
    expect(ended("complete")).toBe(codes.length);
    // Those that were given up before a byte of them was sent never came.
    expect(ended("aborted")).toBeGreaterThan(200);
    expect(ended("failed")).toBe(0);
  });

  it.each([
    ["die", async (worker: Worker | undefined): Promise<unknown> => await worker?.terminate()],
    // A message that their code cannot read.
    ["fail", (worker: Worker | undefined): unknown => worker?.postMessage({ kind: "deciding" })],
  ])("take their streams with them when they %s, and nothing else", async (_, end) => {
    const started = await start();
    const { edge, router, threads, lines, inFlight } = started;
    const { meter } = router;
    const exchanges = await openAll(clientsOf(started), "r");
    const ended = new Set<Exchange>();
    for (const exchange of exchanges) void exchange.code.then(() => ended.add(exchange));
    await end(threads[0]);
    await waitUntil("it is noticed", () => lines.includes("a serving thread failed"));
    await waitUntil("its streams have ended", () => ended.size === CONNECTIONS - inFlight());
    expect(ended.size).toBeGreaterThan(0);
    expect(ended.size).toBeLessThan(CONNECTIONS);
    for (const { code } of ended) expect(await code).not.toBe(grpc.status.OK);
    const counted = (outcome: string): number =>
      meter.total("kvatlas_extproc_streams_total", { outcome });
    expect(counted("failed") + counted("aborted")).toBe(ended.size);
    expect(meter.total("kvatlas_extproc_worker_crashes_total")).toBe(1);
    expect(meter.value("kvatlas_degraded", { component: "extproc" })).toBe(1);
    expect(edge.readyCheck()).toMatchObject({ isOk: true, detail: "1 of 2 threads serve" });

    await waitUntil("another is begun", () => edge.readyCheck().detail === "2 of 2 threads serve");
    expect(meter.value("kvatlas_degraded", { component: "extproc" })).toBe(0);
    const others = exchanges.filter((exchange) => !ended.has(exchange));
    const again = await openAll(clientsOf(started), "again");
    for (const { finish } of [...others, ...again]) expect(await finish()).toBe(grpc.status.OK);
    await waitUntil("all have ended", () => inFlight() === 0);
  });

  it("turn gateways away when all of them are given up", { timeout: 60_000 }, async () => {
    const { edge, threads, lines } = await start();
    const { healthAddress } = edge.server;
    expect(await healthOf(healthAddress)).toBe("SERVING");
    const end = (worker: Worker): void => void worker.terminate();
    process.on("worker", end);
    cleanups.push(() => process.off("worker", end));
    for (const worker of threads.slice()) end(worker);
    const turnsAway = async (): Promise<boolean> =>
      (await healthOf(healthAddress)) === "NOT_SERVING";
    await waitUntil("it turns away", turnsAway, 30_000);
    const givenUp = lines.filter((line) => /not begun again/.test(line));
    expect(givenUp).toHaveLength(2);
    expect(edge.readyCheck()).toMatchObject({ isOk: false });
  });

  it("end what is open before they are drained, and are seen to turn away", async () => {
    const started = await start({ drainMs: 10_000 });
    const { edge, inFlight } = started;
    const exchanges = await openAll(clientsOf(started), "r");
    let isDrained = false;
    const drained = edge.server.drain().then(() => {
      isDrained = true;
    });
    for (const address of [edge.server.address, edge.server.healthAddress]) {
      await waitUntil("it turns away", async () => (await healthOf(address)) === "NOT_SERVING");
    }
    const [last, ...others] = exchanges;
    for (const { finish } of others) expect(await finish()).toBe(grpc.status.OK);
    await waitUntil("one is left", () => inFlight() === 1);
    expect(isDrained).toBe(false);
    expect(await last?.finish()).toBe(grpc.status.OK);
    await drained;
    await waitUntil("all have ended", () => inFlight() === 0);
  });

  it("do not begin where another process has the address", async () => {
    const taken = net.createServer().listen({ host: "127.0.0.1", port: 0, reusePort: true });
    cleanups.push(() => taken.close());
    await waitUntil("it is taken", () => taken.listening);
    const address = taken.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const listen = `127.0.0.1:${port}`;
    await expect(start({ listen })).rejects.toMatchObject({ code: "ERR_PORT_IN_USE" });
  });

  it.skipIf(isOpensslMissing)("show a certificate that was renewed, all of them", async () => {
    const folder = mkdtempSync(join(tmpdir(), "kvatlas-tls-"));
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
    const authority = certificateAuthority(folder, "authority");
    const files = authority.issue("former");
    const started = await start({ tls: files });
    const { edge, router } = started;
    const credentials = grpc.credentials.createSsl(readFileSync(authority.caFile));
    const { finish } = await open(connect(started, credentials), "r");
    expect(await finish()).toBe(grpc.status.OK);
    const names = (): Promise<string[]> =>
      Promise.all(Array.from({ length: CONNECTIONS }, () => servedName(edge.server.address)));
    expect(new Set(await names())).toEqual(new Set(["former"]));
    const renewed = authority.issue("renewed");
    for (const kind of ["certFile", "keyFile"] as const) copyFileSync(renewed[kind], files[kind]);
    await waitUntil(
      "it is read",
      () => router.meter.total("kvatlas_extproc_tls_reloads_total") > 0,
    );
    await waitUntil("all show it", async () => (await names()).every((name) => name === "renewed"));
    const taken = { outcome: "taken" };
    expect(router.meter.total("kvatlas_extproc_tls_reloads_total", taken)).toBe(1);
  });
});

/** What the health service says of itself as a whole. */
async function healthOf(address: string): Promise<string | undefined> {
  const HealthClient = grpc.makeGenericClientConstructor(healthService, "Health");
  const client = new HealthClient(address, grpc.credentials.createInsecure());
  try {
    return await new Promise((resolve) => {
      const answered = (_: Error | null, answer?: { readonly status: string }): void =>
        resolve(answer?.status);
      client["Check"]?.({ service: "" }, answered);
    });
  } finally {
    client.close();
  }
}
