import { describe, expect, it } from "vitest";
import type { Clock } from "../core/clock.ts";
import { type StreamPlace, streamReplaced } from "./nats-place.ts";

const place: StreamPlace = { created: "2026-11-21T14:00:00Z", firstSeq: 1, lastSeq: 10 };

/** Looks at once, as often as there are answers; each may move what was read meanwhile. */
async function watched(answers: readonly (() => StreamPlace)[], seqSeen = () => 0) {
  const abort = new AbortController();
  const left = [...answers];
  const clock: Clock = {
    ...{ nowMs: () => 0, wallMs: () => 0 },
    after: (_, callback) => {
      queueMicrotask(callback);
      return () => {};
    },
  };
  const look = async (): Promise<StreamPlace> => {
    await Promise.resolve();
    const answer = left.shift();
    if (left.length === 0) abort.abort();
    return answer?.() ?? place;
  };
  return streamReplaced({ look, place, seqSeen, clock, signal: abort.signal });
}

describe("a stream", () => {
  it("that grows while it is looked at is the same", async () => {
    let read = 10;
    const answer = (lastSeq: number) => (): StreamPlace => {
      // The answer is on its way, and so are messages that came after it was given.
      read = lastSeq + 50;
      return { ...place, lastSeq };
    };
    expect(await watched([answer(100), answer(200), answer(300)], () => read)).toBe(false);
  });

  it("is another one by its time of creation, or when it lacks what was read from it", async () => {
    const other = (): StreamPlace => ({ ...place, created: "2026-11-21T15:00:00Z", lastSeq: 500 });
    expect(await watched([() => place, other, () => place])).toBe(true);
    const shorter = (): StreamPlace => ({ ...place, lastSeq: 19 });
    expect(await watched([shorter, () => place, () => place], () => 20)).toBe(true);
    expect(await watched([shorter, () => place], () => 15)).toBe(true);
  });

  it("that is gone is another one; a server that is away is waited for", async () => {
    const fails = (message: string) => (): StreamPlace => {
      throw new Error(message);
    };
    expect(await watched([fails("timeout"), () => place])).toBe(false);
    expect(await watched([fails("stream not found"), () => place])).toBe(true);
  });
});
