/** The ext_proc server against peers that break off, lie about frames, or do not read. */
import { afterEach, describe, expect, it } from "vitest";
import {
  connectRaw,
  dataFrames,
  FRAME_TYPE,
  type Frame,
  headersFrame,
  type RawHttp2,
  resetFrame,
  windowFrame,
} from "../../test/harness/raw-http2.ts";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import { endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { extProcConfigSchema } from "./config.ts";
import type { ProcessingRequest } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import { loadExtProcPackage, PROCESS_PATH } from "./grpc-definition.ts";
import { startExtProcServer } from "./grpc-ext-proc.ts";
import { framed } from "./grpc-frames.ts";
import type { EndOfRequest, Picker, PickOutcome } from "./picker.ts";

const route: PickOutcome = { kind: "route", endpointId: endpointId("10.0.0.1:8000") };
const { requestSerialize, responseDeserialize } = loadExtProcPackage().definition.Process;

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(config: object = {}, more: Partial<Picker> & { windowBytes?: number } = {}) {
  const { windowBytes, ...override } = more;
  const ends: EndOfRequest[] = [];
  const meter = recordingMeter();
  const picker: Picker = {
    ...{ pick: () => Promise.resolve(route), pickByLoad: () => route },
    ...{ responseStarted: () => {}, firstByte: () => {}, progressed: () => {} },
    ...{ ended: (_, end) => ends.push(end), ...override },
  };
  const server = await startExtProcServer(
    extProcConfigSchema.parse({
      ...{ listen: "127.0.0.1:0", healthListen: "127.0.0.1:0", drainNoticeMs: 0, ...config },
    }),
    { picker, clock: nodeClock, random: seededRandom(1), log: silentLog, meter },
  );
  cleanups.push(() => server.stop());
  const peer = await connectRaw(server.address, windowBytes);
  cleanups.push(() => peer.close());
  const refused = (reason: string): number =>
    meter.total("kvatlas_extproc_refused_total", { reason });
  return { server, peer, ends, meter, refused };
}

const message = (request: ProcessingRequest): Buffer => framed(requestSerialize(request));
const request_headers = { headers: { headers: [{ key: ":path", value: "/v1/completions" }] } };
const duplex = message({
  request_headers,
  protocol_config: {
    request_body_mode: "FULL_DUPLEX_STREAMED",
    response_body_mode: "FULL_DUPLEX_STREAMED",
  },
});
const body = (bytes: number, isEnd = true): Buffer =>
  message({ request_body: { body: Buffer.alloc(bytes, 32), end_of_stream: isEnd } });

const ofStream = ({ frames }: RawHttp2, streamId: number, type: number): Frame[] =>
  frames.filter((each) => each.streamId === streamId && each.type === type);

/** What the server has answered first on the stream. */
function firstAnswer(peer: RawHttp2, streamId: number) {
  const bytes = Buffer.concat(
    ofStream(peer, streamId, FRAME_TYPE.data).map((each) => each.payload),
  );
  const end = bytes.length < 5 ? Number.POSITIVE_INFINITY : 5 + bytes.readUInt32BE(1);
  return end > bytes.length ? null : responseDeserialize(bytes.subarray(5, end));
}

/** A request whose frames `...bytes` are; stream ids are odd. */
const open = (peer: RawHttp2, streamId: number, ...bytes: Buffer[]): void =>
  peer.send(
    headersFrame(streamId, PROCESS_PATH),
    ...bytes.map((each) => dataFrames(streamId, each)),
  );

describe("a stream that its peer resets", () => {
  const NO_ERROR = 0;
  const CANCEL = 8;

  for (const code of [NO_ERROR, CANCEL]) {
    it(`is over with code ${code}, though its answer was not read`, async () => {
      const { server, peer, ends } = await start({}, { windowBytes: 0 });
      open(peer, 1, duplex, body(900_000));
      await waitUntil("the answer", () => ofStream(peer, 1, FRAME_TYPE.headers).length === 1);
      expect(server.openStreams).toBe(1);
      peer.send(resetFrame(1, code));
      await waitUntil("the end", () => server.openStreams === 0);
      expect(ends).toEqual([{ outcome: "aborted", usage: null }]);
    });
  }

  it("is over after a half-close, too", async () => {
    const { server, peer, ends } = await start({}, { windowBytes: 0 });
    open(peer, 1, duplex);
    peer.send(dataFrames(1, body(900_000), true));
    await waitUntil("the answer", () => ofStream(peer, 1, FRAME_TYPE.headers).length === 1);
    peer.send(resetFrame(1, NO_ERROR));
    await waitUntil("the end", () => server.openStreams === 0);
    expect(ends).toHaveLength(1);
  });
});

describe("a call that the server ends", () => {
  const compressed = Buffer.from([1, 0, 0, 0, 0]);
  const tooLarge = Buffer.from([0, 255, 255, 255, 255]);

  for (const [what, bytes, reason, outcome] of [
    ["a compressed message", compressed, "transport", "aborted"],
    ["one over the limit", tooLarge, "body-too-large", "refused"],
  ] as const) {
    it(`for ${what} gives its budget back, is counted, and is reset after its status`, async () => {
      const { server, peer, meter, refused } = await start({
        bodiesBytesMax: 10_000,
        bodyBytesMax: 10_000,
      });
      open(peer, 1, duplex, body(9000, false), bytes);
      await waitUntil("the status", () => ofStream(peer, 1, FRAME_TYPE.headers).length > 0);
      expect(refused(reason)).toBe(1);
      expect(meter.total("kvatlas_extproc_streams_total", { outcome })).toBe(1);

      open(peer, 3, duplex, body(9000));
      await waitUntil("an answer to the next", () => firstAnswer(peer, 3) !== null);
      expect(firstAnswer(peer, 3)?.response).toBe("request_headers");

      await waitUntil("the reset", () => ofStream(peer, 1, FRAME_TYPE.reset).length === 1);
      const [last] = ofStream(peer, 1, FRAME_TYPE.reset);
      expect(last?.payload.readUInt32BE()).toBe(0);
      await waitUntil("the end", () => server.openStreams === 1);
    });
  }

  it("answers a body over the limit with 413, though it is one message, and fails an answer's", async () => {
    const { peer, meter, refused } = await start({ bodyBytesMax: 10_000 });
    open(peer, 1, duplex, body(2_000_000).subarray(0, 10));
    await waitUntil("an answer", () => firstAnswer(peer, 1) !== null);
    expect(firstAnswer(peer, 1)?.immediate_response?.status).toEqual({ code: 413 });

    open(peer, 3, duplex, body(10));
    await waitUntil("an answer", () => firstAnswer(peer, 3) !== null);
    peer.send(dataFrames(3, tooLarge));
    await waitUntil("the count", () => refused("body-too-large") === 2);
    expect(meter.total("kvatlas_extproc_streams_total", { outcome: "failed" })).toBe(1);
  });

  it("because of the caller's deadline takes the pick under way back", async () => {
    let give = (_: PickOutcome): void => {};
    const signals: AbortSignal[] = [];
    const pick: Picker["pick"] = (_, signal) => {
      signals.push(signal);
      return new Promise((resolve) => (give = resolve));
    };
    const { peer, ends, refused } = await start({ deadlineMs: 60_000 }, { pick });
    peer.send(headersFrame(1, PROCESS_PATH, { "grpc-timeout": "50m" }));
    peer.send(dataFrames(1, Buffer.concat([duplex, body(10)])));
    await waitUntil("the end", () => refused("caller-deadline") === 1);
    expect(signals[0]?.aborted).toBe(true);
    give(route);
    await waitUntil("the booking to be taken back", () => ends.length === 1);
  });

  it("for a half-close within a message is counted", async () => {
    const { server, peer, refused } = await start();
    peer.send(headersFrame(1, PROCESS_PATH), dataFrames(1, duplex.subarray(0, 7), true));
    await waitUntil("the count", () => refused("transport") === 1);
    await waitUntil("the end", () => server.openStreams === 0);
  });

  it("before it began, for what is no call of gRPC", async () => {
    const { peer, refused } = await start();
    const status = (streamId: number): string | undefined =>
      ofStream(peer, streamId, FRAME_TYPE.headers)[0]?.payload.toString("latin1");
    peer.send(headersFrame(1, PROCESS_PATH, { "content-type": "application/grpcish" }));
    peer.send(headersFrame(3, PROCESS_PATH, { ":method": "GET" }));
    peer.send(headersFrame(5, "/some.Service/Method"));
    await waitUntil("the counts", () => refused("transport") === 3);
    await waitUntil("the last answer", () => status(5) !== undefined);
    // HPACK: the name of ":status" and a literal value.
    expect(status(1)).toContain("415");
    expect(status(3)).toContain("405");
    peer.send(headersFrame(7, PROCESS_PATH, { "content-type": "application/grpc+proto" }));
    peer.send(dataFrames(7, Buffer.concat([duplex, body(10)])));
    await waitUntil("an answer", () => firstAnswer(peer, 7) !== null);
  });
});

describe("the budget of bodies", () => {
  const BODY_BYTES = 900_000;
  const limits = { bodiesBytesMax: 2 * BODY_BYTES, bodyBytesMax: BODY_BYTES };

  it("holds what a peer was answered and does not read, until it does", async () => {
    const { peer, refused } = await start(limits, { windowBytes: 0 });
    for (const streamId of [1, 3, 5]) open(peer, streamId, duplex, body(BODY_BYTES));
    await waitUntil("the refusal of the third", () => refused("body-budget") === 1);
    // As much as nothing more of the two waits, and the third has its refusal.
    for (const streamId of [0, 1, 3, 5]) peer.send(windowFrame(streamId, 4_000_000));
    const taken = (streamId: number): number =>
      ofStream(peer, streamId, FRAME_TYPE.data).reduce((sum, each) => sum + each.payload.length, 0);
    await waitUntil("the bodies to be taken", () => taken(1) + taken(3) > 2 * BODY_BYTES);
    expect(firstAnswer(peer, 5)?.immediate_response?.status).toEqual({ code: 503 });

    open(peer, 7, duplex, body(BODY_BYTES));
    peer.send(windowFrame(7, 4_000_000));
    await waitUntil("an answer", () => firstAnswer(peer, 7) !== null);
    expect(firstAnswer(peer, 7)?.response).toBe("request_headers");
  });

  it("has it back from streams that are gone", async () => {
    const { peer, server, refused } = await start(limits, { windowBytes: 0 });
    for (const streamId of [1, 3]) open(peer, streamId, duplex, body(BODY_BYTES));
    await waitUntil("the answers", () => ofStream(peer, 3, FRAME_TYPE.headers).length === 1);
    for (const streamId of [1, 3]) peer.send(resetFrame(streamId, 8));
    await waitUntil("the ends", () => server.openStreams === 0);
    for (const streamId of [5, 7]) open(peer, streamId, duplex, body(BODY_BYTES));
    await waitUntil("the answers", () => ofStream(peer, 7, FRAME_TYPE.headers).length === 1);
    expect(refused("body-budget")).toBe(0);
  });

  it("counts messages that came in part, of however many streams", async () => {
    const { peer, server, refused } = await start(limits);
    const half = body(BODY_BYTES).subarray(0, BODY_BYTES / 2);
    const streamIds = Array.from({ length: 12 }, (_, n) => 2 * n + 1);
    for (const streamId of streamIds) open(peer, streamId, duplex, half);
    const status = (id: number) => firstAnswer(peer, id)?.immediate_response?.status?.code;
    await waitUntil("8 answers", () => streamIds.filter((id) => status(id) === 503).length === 8);
    expect(refused("body-budget")).toBe(8);
    for (const streamId of streamIds) peer.send(resetFrame(streamId, 8));
    await waitUntil("the ends", () => server.openStreams === 0);
    open(peer, 101, duplex, body(BODY_BYTES));
    await waitUntil("an answer", () => firstAnswer(peer, 101) !== null);
    expect(firstAnswer(peer, 101)?.response).toBe("request_headers");
  });
});
