/** The Envoy edge through a real Envoy, with a picker that does what a request header says. */
import http from "node:http";
import http2 from "node:http2";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { seededRandom } from "../../src/core/random.ts";
import { extProcConfigSchema } from "../../src/extproc/config.ts";
import { EVENTS_BATCH } from "../../src/extproc/event-count.ts";
import { type ExtProcServer, startExtProcServer } from "../../src/extproc/grpc-ext-proc.ts";
import { type EnvoyRecipe, envoyRecipe } from "../../src/lab/file-envoy-recipe.ts";
import { type RunningEnvoy, startEnvoy } from "../../src/lab/process-envoy.ts";
import { requireBinary } from "../harness/binaries.ts";
import { withSubset } from "../harness/envoy-edits.ts";
import { HeaderPicker } from "../harness/header-picker.ts";
import { send } from "../harness/http-client.ts";
import { recordingMeter } from "../harness/recording-meter.ts";
import {
  SSE_EVENTS,
  SSE_INTERVAL_MS,
  startUpstream,
  type TestUpstream,
} from "../harness/test-upstream.ts";
import { waitUntil } from "../harness/wait-until.ts";

const envoyBinary = await requireBinary("envoy");

describe.skipIf(envoyBinary.isMissing)(`ext_proc through Envoy${envoyBinary.note}`, () => {
  const picker = new HeaderPicker();
  const meter = recordingMeter();
  let upstreams: TestUpstream[] = [];
  let endpoints: string[] = [];
  let server: ExtProcServer;
  let envoy: RunningEnvoy;
  let address = "";

  beforeAll(async () => {
    upstreams = await Promise.all([startUpstream(), startUpstream(), startUpstream()]);
    endpoints = upstreams.map((upstream) => upstream.address);
    picker.endpoints = endpoints;
    server = await startServer();
    envoy = await start();
    address = envoy.listenAddress;
  });

  afterAll(async () => {
    await envoy?.stop();
    await server?.stop();
    await Promise.all(upstreams.map((upstream) => upstream.close()));
  });

  function startServer(): Promise<ExtProcServer> {
    const config = extProcConfigSchema.parse({
      listen: "127.0.0.1:0",
      healthListen: "127.0.0.1:0",
      drainMs: 10_000,
      drainNoticeMs: 10,
    });
    const random = seededRandom(1);
    return startExtProcServer(config, { picker, clock: nodeClock, random, log: silentLog, meter });
  }

  function start(subset: readonly string[] | null = null, recipe: EnvoyRecipe = "kvatlas") {
    const config = envoyRecipe({
      recipe,
      listenAddress: "127.0.0.1:0",
      adminAddress: "127.0.0.1:0",
      extProcAddress: server.address,
      endpoints,
      roundRobinListenAddress: "127.0.0.1:0",
    });
    return startEnvoy({
      binary: envoyBinary.path,
      clock: nodeClock,
      config: subset === null ? config : withSubset(config, subset),
    });
  }

  it.each([0, 1, 2])("lands GET, POST and chunked requests on endpoint %i", async (index) => {
    const headers = { "x-test-pick": String(index) };
    const chunks = [Buffer.from("a"), Buffer.alloc(100_000, "b"), Buffer.from("c")];
    const answers = await Promise.all([
      send({ address, path: "/", headers }),
      send({ address, path: "/echo", headers, body: '{"prompt":"x"}' }),
      send({ address, path: "/echo", headers, chunks }),
      send({ address, path: "/echo", headers, body: "" }),
    ]);
    for (const answer of answers) {
      expect(answer.status).toBe(200);
      expect(answer.headers["x-served-by"]).toBe(endpoints[index]);
    }
    expect(answers[1]?.body.toString()).toBe('{"prompt":"x"}');
    expect(answers[2]?.body.equals(Buffer.concat(chunks))).toBe(true);
  });

  it("lands HTTP/2 requests on the picked endpoint, with trailers", async () => {
    const session = http2.connect(`http://${address}`);
    const answer = await new Promise<{ served: unknown; text: string }>((resolve, reject) => {
      const stream = session.request(
        { ":method": "POST", ":path": "/echo", "x-test-pick": "1" },
        { waitForTrailers: true, endStream: false },
      );
      let served: unknown;
      let text = "";
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-checksum": "1" }));
      stream.on("response", (headers) => {
        served = headers["x-served-by"];
      });
      stream.setEncoding("utf8");
      stream.on("data", (piece) => {
        text += piece;
      });
      stream.on("end", () => resolve({ served, text }));
      stream.on("error", reject);
      stream.end("hello over two");
    });
    session.close();
    expect(answer).toEqual({ served: endpoints[1], text: "hello over two" });
  });

  it("passes 8 MB byte-exact both ways", async () => {
    // No two words of it are equal.
    const words = new Uint32Array(2_097_152).map((_, at) => Math.imul(at, 0x9e37_79b1));
    const body = Buffer.from(words.buffer);
    const answer = await send({ address, path: "/echo", body });
    expect(answer.status).toBe(200);
    expect(answer.body.equals(body)).toBe(true);
  });

  it.each(["kvatlas", "kvatlas-buffered"] as const)(
    "streams server-sent events as they come and observes usage and endpoint: %s",
    async (recipe) => {
      const gateway = await start(null, recipe);
      const requestId = `sse-${recipe}`;
      const headers = { "x-test-pick": "2", "x-request-id": requestId };
      const answer = await send({
        address: gateway.listenAddress,
        path: "/sse",
        headers,
        body: "{}",
      });
      await gateway.stop();
      expect(answer.body.toString().match(/token \d/g)).toHaveLength(SSE_EVENTS);
      const spreadMs = (answer.chunkMs.at(-1) ?? 0) - (answer.chunkMs[0] ?? 0);
      expect(spreadMs).toBeGreaterThan((SSE_EVENTS * SSE_INTERVAL_MS) / 2);
      expect(picker.seen.get(requestId)).toMatchObject({
        status: 200,
        servedBy: endpoints[2],
        firstBytes: 1,
        streamedTokens: EVENTS_BATCH,
        ends: [
          {
            outcome: "complete",
            usage: { promptTokens: 7, cachedTokens: 4, completionTokens: 10 },
          },
        ],
      });
    },
  );

  it("tells the picker when a client goes away in the answer", async () => {
    const headers = { "x-request-id": "gone-1" };
    await new Promise<void>((resolve) => {
      const request = http.get(`http://${address}/sse`, { headers }, (response) => {
        response.once("data", () => request.destroy());
        response.on("error", () => {});
        response.on("close", () => resolve());
      });
    });
    await waitUntil("the end of the request", () => picker.seen.get("gone-1")?.ends.length === 1);
    expect(picker.seen.get("gone-1")?.ends[0]?.outcome).toBe("aborted");
  });

  it("tells the picker when a client goes away before the answer starts", async () => {
    const headers = { "x-request-id": "gone-2" };
    const request = http.get(`http://${address}/silent`, { headers });
    request.on("error", () => {});
    await waitUntil("the request to be routed", () => picker.seen.has("gone-2"));
    await waitUntil("the endpoint to have it", () => upstreams[0]?.silentRequests === 1);
    request.destroy();
    await waitUntil("the end of the request", () => picker.seen.get("gone-2")?.ends.length === 1);
    expect(picker.seen.get("gone-2")?.ends).toEqual([{ outcome: "aborted", usage: null }]);
  });

  it("takes a client that goes away within its request for an abort", async () => {
    const aborted = (): number =>
      meter.total("kvatlas_extproc_streams_total", { outcome: "aborted" });
    const before = aborted();
    await waitUntil("earlier streams to be over", () => server.openStreams === 0);
    const request = http.request(`http://${address}/echo`, { method: "POST" });
    request.on("error", () => {});
    request.write("the beginning of a body");
    await waitUntil("the stream", () => server.openStreams === 1);
    request.destroy();
    await waitUntil("the end of the stream", () => server.openStreams === 0);
    expect(aborted()).toBe(before + 1);
    expect(meter.total("kvatlas_extproc_refused_total", { reason: "protocol-order" })).toBe(0);
  });

  it("gives a destination header of the client no effect", async () => {
    const spoofed = endpoints[2] ?? "";
    const answer = await send({
      address,
      path: "/",
      headers: { "x-gateway-destination-endpoint": spoofed, "x-test-pick": "1" },
    });
    expect(answer.headers["x-served-by"]).toBe(endpoints[1]);
    const passed = JSON.parse(answer.body.toString());
    expect(passed["x-gateway-destination-endpoint"]).toBe(endpoints[1]);
  });

  it.each(["kvatlas", "kvatlas-buffered"] as const)(
    "sends another body on where the picker asks for it, by %s",
    async (recipe) => {
      const other = await start(null, recipe);
      try {
        for (const changed of ['{"model":"a longer name"}', "{}"]) {
          const headers = { "x-test-body": changed };
          const body = '{"model":"a name"}';
          for (const sent of [{ body }, { chunks: [Buffer.from(body), Buffer.from(" ")] }]) {
            const to = { address: other.listenAddress, path: "/echo", headers };
            const answer = await send({ ...to, ...sent });
            expect(answer.status).toBe(200);
            expect(answer.body.toString()).toBe(changed);
          }
        }
      } finally {
        await other.stop();
      }
    },
  );

  it("keeps requests with the same x-request-id apart", async () => {
    const headers = { "x-request-id": "twin", "x-test-pick": "1" };
    const answers = await Promise.all([
      send({ address, path: "/sse", headers }),
      send({ address, path: "/sse", headers }),
    ]);
    expect(answers.map((answer) => answer.status)).toEqual([200, 200]);
    const twins = [...picker.seen].filter(([requestId]) => requestId.startsWith("twin"));
    expect(twins.map(([, seen]) => seen.ends.length)).toEqual([1, 1]);
  });

  it("passes refusals with status, reason and OpenAI's error form", async () => {
    const body = Buffer.alloc(200_000, "x");
    const shed = await send({ address, path: "/", headers: { "x-test-pick": "shed" }, body });
    expect(shed.status).toBe(429);
    expect(shed.headers["x-kvatlas-refused"]).toBe("overloaded");
    expect(shed.headers["content-type"]).toBe("application/json");
    expect(JSON.parse(shed.body.toString()).error).toMatchObject({
      code: "overloaded",
      message: "later",
    });
    const none = await send({ address, path: "/", headers: { "x-test-pick": "9" } });
    expect(none.status).toBe(503);
    expect(none.headers["x-kvatlas-refused"]).toBe("no-ready-endpoint");
  });

  it("refuses a body over the limit with 413", async () => {
    const chunks = Array.from({ length: 34 }, () => Buffer.alloc(1_048_576));
    const answer = await send({ address, path: "/echo", chunks });
    expect(answer.status).toBe(413);
    expect(answer.headers["x-kvatlas-refused"]).toBe("body-too-large");
  });

  it.each([
    ["throw", "error"],
    ["hang", "deadline"],
  ])("routes by load when the picker does %s", async (wanted, reason) => {
    const headers = { "x-test-pick": wanted };
    const answer = await send({ address, path: "/echo", headers, body: "late" });
    expect(answer.headers["x-served-by"]).toBe(endpoints.at(-1));
    expect(answer.body.toString()).toBe("late");
    expect(meter.total("kvatlas_extproc_fallbacks_total", { reason, by: "load" })).toBe(1);
  });

  it("honours the gateway's subset hint, with and without port", async () => {
    const third = endpoints[2] ?? "";
    const narrow = await start([third]);
    const answer = await send({ address: narrow.listenAddress, path: "/" });
    expect(answer.headers["x-served-by"]).toBe(third);
    await narrow.stop();

    const empty = await start([]);
    const refused = await send({ address: empty.listenAddress, path: "/" });
    expect([refused.status, refused.headers["x-kvatlas-refused"]]).toEqual([503, "subset-empty"]);
    await empty.stop();
  });

  it("has a second listener in plain rotation for comparison", async () => {
    const rotation = envoy.roundRobinAddress ?? "";
    const answers = [];
    for (let request = 0; request < 6; request += 1) {
      answers.push(await send({ address: rotation, path: "/" }));
    }
    expect(new Set(answers.map((answer) => answer.headers["x-served-by"])).size).toBe(3);
  });

  it("answers 20,000 requests at 64 connections without an error", {
    timeout: 240_000,
  }, async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
    const body = Buffer.alloc(500, "x");
    const statuses = new Map<number | string, number>();
    let left = 20_000;
    const work = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        const headers = { "x-test-pick": String(left % 3) };
        const outcome = await send({ address, path: "/echo", headers, body, agent }).then(
          (answer) => (answer.body.equals(body) ? answer.status : "body differs"),
          (reason: unknown) => String(reason),
        );
        statuses.set(outcome, (statuses.get(outcome) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: 64 }, work));
    agent.destroy();
    expect(Object.fromEntries(statuses)).toEqual({ 200: 20_000 });
    await waitUntil("all streams to be over", () => server.openStreams === 0);
    const stats = await send({ address: envoy.adminAddress, path: "/stats?filter=ext_proc.*cx_" });
    expect(stats.body.toString()).toMatch(/upstream_cx_total: 1$/m);
    picker.seen.clear();
  });

  it("drains: NOT_SERVING to gateways, and an answer in flight passes to its end", async () => {
    const pending = send({ address, path: "/sse", headers: { "x-request-id": "drain-1" } });
    await waitUntil("the answer to start", () => picker.seen.get("drain-1")?.firstBytes === 1);
    const drained = server.drain();
    const answer = await pending;
    expect(answer.body.toString()).toContain("[DONE]");
    await drained;
    expect(picker.seen.get("drain-1")?.ends[0]?.outcome).toBe("complete");
    const isTurnedAway = async (): Promise<boolean> => {
      const clusters = await send({ address: envoy.adminAddress, path: "/clusters" });
      return /ext_proc::.*health_flags::\/failed_active_hc/.test(clusters.body.toString());
    };
    await waitUntil("Envoy to see NOT_SERVING", isTurnedAway, 5000);
    server.health.setReady(true);
  });
});
