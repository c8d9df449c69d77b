import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import type { Clock } from "../../core/clock.ts";
import type { PlannedRequest } from "../workload/planned-work.ts";
import type { Reply, Sender } from "./http-senders.ts";
import { Traffic } from "./traffic.ts";

const USAGE = '{"usage":{"prompt_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}';
const ANSWER = `data: {"text":"a"}\n\ndata: ${USAGE}\n\ndata: [DONE]\n\n`;
const NEVER = new AbortController().signal;

/** Time that passes by itself: the earliest timer runs as soon as nothing else does. */
function runningClock(): Clock {
  let nowMs = 0;
  const timers = new Set<{ readonly dueMs: number; readonly callback: () => void }>();
  const runNext = (): void => {
    const [next] = [...timers].sort((a, b) => a.dueMs - b.dueMs);
    if (next === undefined) return;
    timers.delete(next);
    nowMs = Math.max(nowMs, next.dueMs);
    next.callback();
    setImmediate(runNext);
  };
  return {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    after: (delayMs, callback) => {
      const timer = { dueMs: nowMs + delayMs, callback };
      timers.add(timer);
      setImmediate(runNext);
      return () => timers.delete(timer);
    },
  };
}

function request(dueMs: number, after: PlannedRequest["after"] = null): PlannedRequest {
  return { dueMs, after, prompt: Uint32Array.of(7, dueMs), outputTokens: 1 };
}

function traffic(
  requests: readonly PlannedRequest[],
  answer: (body: string) => Promise<Reply>,
): {
  readonly traffic: Traffic;
  readonly sent: { readonly atMs: number; readonly body: string }[];
} {
  const clock = runningClock();
  const sent: { readonly atMs: number; readonly body: string }[] = [];
  const sender: Sender = {
    send: (bytes) => {
      const body = Buffer.from(bytes).toString();
      sent.push({ atMs: clock.nowMs(), body });
      return answer(body);
    },
    close: () => {},
  };
  const work = { requests, description: [] };
  return { traffic: new Traffic(work, { clock, sender, model: "m" }), sent };
}

const good = async (): Promise<Reply> => ({ status: 200, body: Readable.from([ANSWER]) });

describe("traffic", () => {
  it("sends at the planned times, a later turn after the answer and the time to think", async () => {
    const requests = [request(100), request(250), request(400, { index: 1, thinkMs: 500 })];
    const { traffic: running, sent } = traffic(requests, good);
    await running.run(NEVER);
    expect(sent.map(({ atMs }) => atMs)).toEqual([100, 250, 750]);
    expect(JSON.parse(sent[1]?.body ?? "")).toEqual({
      model: "m",
      prompt: [7, 250],
      max_tokens: 1,
      stream: true,
      stream_options: { include_usage: true },
    });
    const { done, inFlight, failed, promptTokens, cachedTokens, ttftMs } = running.totals;
    expect({ done, inFlight, failed, promptTokens, cachedTokens }).toEqual({
      done: 3,
      inFlight: 0,
      failed: 0,
      promptTokens: 12,
      cachedTokens: 6,
    });
    expect(ttftMs.length).toBe(3);
  });

  it("counts failures by their reason, and goes on", async () => {
    const replies: (() => Promise<Reply>)[] = [
      async () => ({ status: 503, body: Readable.from(["no"]) }),
      async () => ({ status: 200, body: Readable.from(['data: {"text":"a"}\n\n']) }),
      () => Promise.reject(new Error("ECONNREFUSED")),
      good,
    ];
    const requests = replies.map((_, index) => request(index * 100));
    const { traffic: running } = traffic(requests, () => (replies.shift() ?? good)());
    await running.run(NEVER);
    expect(running.totals.done).toBe(1);
    expect(running.totals.failed).toBe(3);
    expect([...running.totals.failures]).toEqual([
      ["status 503", 1],
      ["the answer broke off", 1],
      ["ECONNREFUSED", 1],
    ]);
  });

  it("keeps a bounded number of reasons apart", async () => {
    let count = 0;
    const requests = Array.from({ length: 20 }, (_, index) => request(index));
    const { traffic: running } = traffic(requests, () =>
      Promise.reject(new Error(`reason ${count++}`)),
    );
    await running.run(NEVER);
    expect(running.totals.failures.size).toBe(9);
    expect(running.totals.failures.get("other reasons")).toBe(12);
  });

  it("fails what is left when it is aborted", async () => {
    const { traffic: running, sent } = traffic([request(0), request(1e9)], good);
    const limit = new AbortController();
    limit.abort();
    await running.run(limit.signal);
    expect(sent).toEqual([]);
    expect([...running.totals.failures]).toEqual([["not answered in time", 2]]);
  });
});
