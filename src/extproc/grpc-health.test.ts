/** The health service against peers that no gRPC library would be. */
import { service as definition } from "grpc-health-check";
import { afterEach, describe, expect, it } from "vitest";
import {
  connectRaw,
  dataFrames,
  FRAME_TYPE,
  headersFrame,
  type RawHttp2,
} from "../../test/harness/raw-http2.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import { nodeClock } from "../core/node-clock.ts";
import { framed } from "./grpc-frames.ts";
import { GrpcHealth } from "./grpc-health.ts";
import { listenHttp2Grpc } from "./http2-grpc-server.ts";

const CHECK = "/grpc.health.v1.Health/Check";
const WATCH = "/grpc.health.v1.Health/Watch";
const ANY_SERVICE = framed(Buffer.alloc(0));
const GARBAGE = framed(Buffer.from([0xff, 0xff, 0xff, 0xff]));

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start() {
  const refused: string[] = [];
  const health = new GrpcHealth("a.Service");
  health.setReady(true);
  const server = await listenHttp2Grpc({
    ...{ address: "127.0.0.1:0", tls: null, clock: nodeClock },
    handlers: health.handlers(),
    onRefused: (reason) => refused.push(reason),
  });
  cleanups.push(() => server.close());
  const peer = await connectRaw(server.address);
  cleanups.push(() => peer.close());
  return { health, peer, refused };
}

const seen = ({ frames }: RawHttp2, streamId: number, type: number): number =>
  frames.filter((each) => each.streamId === streamId && each.type === type).length;

/** Statuses that a watch was told. */
const statuses = ({ frames }: RawHttp2, streamId: number): unknown[] =>
  frames
    .filter((each) => each.streamId === streamId && each.type === FRAME_TYPE.data)
    .filter(({ payload }) => payload.length > 0)
    .map(({ payload }) => definition["Watch"]?.responseDeserialize(payload.subarray(5)))
    .map((answer) => Reflect.get(answer ?? {}, "status"));

describe("gRPC health", () => {
  it("ends a call whose message it cannot read, and serves the next", async () => {
    const { peer, refused } = await start();
    for (const [streamId, path] of [
      [1, CHECK],
      [3, WATCH],
    ] as const) {
      peer.send(headersFrame(streamId, path), dataFrames(streamId, GARBAGE));
      await waitUntil("its end", () => seen(peer, streamId, FRAME_TYPE.headers) > 0);
    }
    expect(refused).toEqual(["transport", "transport"]);
    peer.send(headersFrame(5, CHECK), dataFrames(5, ANY_SERVICE, true));
    await waitUntil("the answer", () => seen(peer, 5, FRAME_TYPE.data) > 0);
    expect(statuses(peer, 5)[0]).toBe("SERVING");
  });

  it("tells a watch each change once, and takes one message a call", async () => {
    const { health, peer, refused } = await start();
    peer.send(headersFrame(1, WATCH), dataFrames(1, ANY_SERVICE));
    await waitUntil("the status", () => statuses(peer, 1).length === 1);
    health.setReady(true);
    health.setReady(false);
    await waitUntil("the change", () => statuses(peer, 1).length === 2);
    expect(statuses(peer, 1)).toEqual(["SERVING", "NOT_SERVING"]);

    peer.send(dataFrames(1, ANY_SERVICE));
    await waitUntil("its end", () => seen(peer, 1, FRAME_TYPE.headers) === 2);
    health.setReady(true);
    expect(statuses(peer, 1)).toHaveLength(2);
    expect(refused).toEqual(["transport"]);
  });

  it("refuses a message that is longer than any name of a service", async () => {
    const { peer, refused } = await start();
    peer.send(headersFrame(1, CHECK), dataFrames(1, framed(Buffer.alloc(5000)).subarray(0, 5)));
    await waitUntil("its end", () => seen(peer, 1, FRAME_TYPE.headers) === 1);
    expect(refused).toEqual(["transport"]);
  });
});
