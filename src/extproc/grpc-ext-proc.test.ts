import grpc from "@grpc/grpc-js";
import { service as healthService } from "grpc-health-check";
import { afterEach, describe, expect, it } from "vitest";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import { endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { extProcConfigSchema } from "./config.ts";
import type { ProcessingRequest } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import { EXT_PROC_SERVICE, loadExtProcPackage } from "./grpc-definition.ts";
import { type ExtProcServer, startExtProcServer } from "./grpc-ext-proc.ts";
import type { EndOfRequest, Picker, PickOutcome } from "./picker.ts";

const podA = endpointId("10.0.0.1:8000");
const route: PickOutcome = { kind: "route", endpointId: podA };

function newPicker(more: Partial<Picker> = {}): Picker & { readonly ends: EndOfRequest[] } {
  const ends: EndOfRequest[] = [];
  return {
    ends,
    pick: () => Promise.resolve(route),
    pickByLoad: () => route,
    responseStarted: () => {},
    firstByte: () => {},
    progressed: () => {},
    ended: (_, end) => ends.push(end),
    ...more,
  };
}

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(picker: Picker, config: object = {}) {
  const meter = recordingMeter();
  const server = await startExtProcServer(
    extProcConfigSchema.parse({
      listen: "127.0.0.1:0",
      healthListen: "127.0.0.1:0",
      drainNoticeMs: 0,
      ...config,
    }),
    { picker, clock: nodeClock, random: seededRandom(1), log: silentLog, meter },
  );
  cleanups.push(() => server.stop());
  const client = loadExtProcPackage().createClient(server.address);
  cleanups.push(() => client.close());
  return { server, client, meter };
}

interface Answers {
  readonly messages: ProcessingResponse__Output[];
  readonly code: number;
}

/** Resolves with everything the server sent, when it has ended the stream. */
function collect(
  stream: grpc.ClientDuplexStream<ProcessingRequest, ProcessingResponse__Output>,
): Promise<Answers> {
  const messages: ProcessingResponse__Output[] = [];
  stream.on("data", (message) => messages.push(message));
  stream.on("error", () => {});
  return new Promise((resolve) =>
    stream.on("status", (status) => resolve({ messages, code: status.code })),
  );
}

const headers: ProcessingRequest = {
  request_headers: { headers: { headers: [{ key: ":path", value: "/v1/completions" }] } },
};
const body: ProcessingRequest = {
  request_body: { body: Buffer.from("{}"), end_of_stream: true },
};

describe("the ext_proc server", () => {
  it("ends the stream when a peer half-closes after its request", async () => {
    const picker = newPicker();
    const { client, meter, server } = await start(picker);
    const stream = client.Process();
    const answers = collect(stream);
    stream.write(headers);
    stream.write(body);
    stream.end();
    const { messages, code } = await answers;
    expect(code).toBe(grpc.status.OK);
    expect(messages.map((each) => each.response)).toEqual(["request_headers", "request_body"]);
    const option = messages[0]?.request_headers?.response?.header_mutation?.set_headers?.[0];
    expect(option?.header?.raw_value?.toString()).toBe(podA);
    expect(picker.ends).toEqual([{ outcome: "complete", usage: null }]);
    expect(meter.total("kvatlas_extproc_streams_total", { outcome: "routed" })).toBe(1);
    await waitUntil("the stream to be over", () => server.openStreams === 0);
  });

  it("answers by load when a decision never comes", async () => {
    let aborted = false;
    const picker = newPicker({
      pick: (_, signal) =>
        new Promise(() => signal.addEventListener("abort", () => (aborted = true))),
    });
    const { client, meter } = await start(picker, { deadlineMs: 20 });
    const stream = client.Process();
    const answers = collect(stream);
    stream.write(headers);
    stream.end(body);
    expect((await answers).messages).toHaveLength(2);
    expect(aborted).toBe(true);
    const labels = { reason: "deadline", by: "load" };
    expect(meter.total("kvatlas_extproc_fallbacks_total", labels)).toBe(1);
  });

  it("refuses with 503 when even the choice by load throws", async () => {
    const fail = (): never => {
      throw new Error("broken");
    };
    const { client, meter } = await start(newPicker({ pick: fail, pickByLoad: fail }));
    const stream = client.Process();
    const answers = collect(stream);
    stream.write(headers);
    stream.write(body);
    const { messages, code } = await answers;
    expect(code).toBe(grpc.status.OK);
    expect(messages[0]?.immediate_response?.status).toEqual({ code: 503 });
    expect(meter.total("kvatlas_extproc_refused_total", { reason: "picker-failed" })).toBe(1);
  });

  it("ends the stream with an error when the picker throws on a response", async () => {
    const picker = newPicker({
      responseStarted: () => {
        throw new Error("broken");
      },
    });
    const { client, meter } = await start(picker);
    const stream = client.Process();
    const answers = collect(stream);
    stream.write(headers);
    stream.write(body);
    stream.write({ response_headers: {} });
    expect((await answers).code).toBe(grpc.status.INTERNAL);
    expect(meter.total("kvatlas_extproc_streams_total", { outcome: "failed" })).toBe(1);
    expect(picker.ends).toEqual([{ outcome: "aborted", usage: null }]);
  });

  it("counts bytes that are no message, and goes on with other streams", async () => {
    const { client, server, meter } = await start(newPicker());
    const raw = new grpc.Client(server.address, grpc.credentials.createInsecure());
    cleanups.push(() => raw.close());
    const identity = (bytes: Buffer): Buffer => bytes;
    const bad = raw.makeBidiStreamRequest(`/${EXT_PROC_SERVICE}/Process`, identity, identity);
    const badCode = new Promise((resolve) => bad.on("status", (status) => resolve(status.code)));
    bad.on("error", () => {});
    bad.on("data", () => {});
    bad.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
    expect(await badCode).toBe(grpc.status.INTERNAL);
    expect(meter.total("kvatlas_extproc_refused_total", { reason: "unknown-message" })).toBe(1);

    const stream = client.Process();
    const answers = collect(stream);
    stream.write(headers);
    stream.end(body);
    expect((await answers).messages).toHaveLength(2);
  });

  it("takes a reset within the body for an abort", async () => {
    const { client, server, meter } = await start(newPicker());
    const stream = client.Process();
    void collect(stream);
    stream.write(headers);
    stream.write({ request_body: { body: Buffer.from("{") } });
    await waitUntil("the stream to be open", () => server.openStreams === 1);
    stream.cancel();
    await waitUntil("the stream to be over", () => server.openStreams === 0);
    expect(meter.total("kvatlas_extproc_streams_total", { outcome: "aborted" })).toBe(1);
    expect(meter.total("kvatlas_extproc_refused_total")).toBe(0);
  });

  it("fails at no reset, whenever it comes", async () => {
    const { client, server, meter } = await start(newPicker());
    const first = client.Process();
    const connected = collect(first);
    first.write(headers);
    first.end(body);
    await connected;
    for (let turn = 0; turn < 300; turn += 1) {
      const stream = client.Process();
      void collect(stream);
      stream.write(headers);
      stream.write(body);
      if (turn % 2 === 0) setImmediate(() => stream.cancel());
      else stream.once("data", () => stream.cancel());
    }
    const seen = (): number => meter.total("kvatlas_extproc_streams_total");
    await waitUntil("the streams to be over", () => seen() > 100 && server.openStreams === 0);
    expect(meter.total("kvatlas_extproc_streams_total", { outcome: "failed" })).toBe(0);
  });

  it("takes a buffered body over 4 MB in one message", async () => {
    const { client } = await start(newPicker());
    const stream = client.Process({});
    const answers = collect(stream);
    stream.write({ ...headers, protocol_config: { request_body_mode: "BUFFERED" } });
    stream.end({ request_body: { body: Buffer.alloc(8_388_608), end_of_stream: true } });
    expect((await answers).messages.map((each) => each.response)).toEqual([
      "request_headers",
      "request_body",
    ]);
  });

  it("refuses a message over its limit, a method it does not have, and a call past its deadline", async () => {
    const { client, server } = await start(newPicker(), { bodyBytesMax: 1024 });
    const large = client.Process();
    const refused = collect(large);
    large.write({ request_body: { body: Buffer.alloc(2_000_000) } });
    const { messages } = await refused;
    expect(messages.map((each) => each.immediate_response?.status)).toEqual([{ code: 413 }]);

    const raw = new grpc.Client(server.address, grpc.credentials.createInsecure());
    cleanups.push(() => raw.close());
    const identity = (bytes: Buffer): Buffer => bytes;
    const unknown = raw.makeBidiStreamRequest("/some.Service/Method", identity, identity);
    unknown.on("error", () => {});
    unknown.on("data", () => {});
    const code = await new Promise((resolve) => unknown.on("status", (end) => resolve(end.code)));
    expect(code).toBe(grpc.status.UNIMPLEMENTED);

    const late = client.Process({ deadline: nodeClock.wallMs() + 50 });
    const ended = collect(late);
    late.write(headers);
    expect((await ended).code).toBe(grpc.status.DEADLINE_EXCEEDED);
    await waitUntil("the streams to be over", () => server.openStreams === 0);
  });

  it("names the address that is in use", async () => {
    const { server } = await start(newPicker());
    for (const taken of [{ listen: server.address }, { healthListen: server.healthAddress }]) {
      await expect(start(newPicker(), taken)).rejects.toMatchObject({
        code: "ERR_PORT_IN_USE",
        message: `address ${Object.values(taken)[0]} is in use`,
      });
    }
  });

  it("waits with draining for open streams, up to its limit, and cuts them at the stop", async () => {
    const picker = newPicker();
    const { client, server } = await start(picker, { drainMs: 50 });
    const stream = client.Process();
    const answers = collect(stream);
    stream.write(headers);
    stream.write(body);
    await waitUntil("the stream to be open", () => server.openStreams === 1);
    await server.drain();
    expect(server.openStreams).toBe(1);
    await server.stop();
    expect((await answers).code).not.toBe(grpc.status.OK);
    await waitUntil("the end of the request", () => picker.ends.length === 1);
  });
});

describe("gRPC health", () => {
  const services = ["", "readiness", "inference-extension", EXT_PROC_SERVICE, "liveness"];

  async function statuses(address: string): Promise<unknown[]> {
    const HealthClient = grpc.makeGenericClientConstructor(healthService, "Health");
    const client = new HealthClient(address, grpc.credentials.createInsecure());
    const check = (service: string): Promise<unknown> =>
      new Promise((resolve) => {
        client["Check"]?.(
          { service },
          (error: Error | null, answer: { status?: string } | undefined) =>
            resolve(error?.message ?? answer?.status),
        );
      });
    const answers = await Promise.all(services.map(check));
    client.close();
    return answers;
  }

  it("serves both addresses; draining ends readiness and leaves liveness", async () => {
    const { server }: { server: ExtProcServer } = await start(newPicker());
    for (const address of [server.address, server.healthAddress]) {
      expect(await statuses(address)).toEqual(services.map(() => "SERVING"));
    }
    await server.drain();
    const drained = services.map((each) => (each === "liveness" ? "SERVING" : "NOT_SERVING"));
    expect(await statuses(server.healthAddress)).toEqual(drained);
    expect(await statuses(server.address)).toEqual(drained);
  });
});
