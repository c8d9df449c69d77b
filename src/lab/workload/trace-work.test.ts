import { describe, expect, it } from "vitest";
import { seededRandom } from "../../core/random.ts";
import type { TraceRequest } from "./mooncake-trace.ts";
import { planTrace } from "./trace-work.ts";

const LIMITS = { promptTokensMax: 4096, outputTokensMax: 64 };

/** Conversations of three turns each, a second apart; all share block 0. */
function traceOf(conversations: number): TraceRequest[] {
  return Array.from({ length: conversations }, (_, index) => index).flatMap((conversation) =>
    [1, 2, 3].map((turn) => ({
      atMs: conversation * 100 + turn * 1000,
      inputTokens: (turn + 1) * 512,
      outputTokens: 300,
      hashIds: Array.from({ length: turn + 1 }, (_, block) => block && conversation * 10 + block),
    })),
  );
}

describe("trace work", () => {
  const load = { seconds: 10, newTokensPerSecond: 1536 };

  it("takes whole conversations until the load is reached, and fills the time", () => {
    const work = planTrace(traceOf(100), { load, limits: LIMITS }, seededRandom(1));
    // A conversation brings 3 blocks of its own, and 15,360 tokens are wanted.
    expect(work.requests.length).toBe(30);
    expect(work.requests[0]?.dueMs).toBe(0);
    expect(work.requests.at(-1)?.dueMs).toBeCloseTo(10_000);
    expect(work.requests.every(({ outputTokens }) => outputTokens === 64)).toBe(true);
    const lengths = work.requests.map(({ prompt }) => prompt.length);
    for (const tokens of [1024, 1536, 2048]) {
      expect(lengths.filter((length) => length === tokens).length).toBe(10);
    }
  });

  it("is the same for the same seed", () => {
    const plan = (seed: number): unknown =>
      planTrace(traceOf(100), { load, limits: LIMITS }, seededRandom(seed));
    expect(plan(3)).toEqual(plan(3));
    expect(plan(3)).not.toEqual(plan(4));
  });

  it("sends a small trace in the time that its load asks for", () => {
    const work = planTrace(traceOf(1), { load, limits: LIMITS }, seededRandom(1));
    expect(work.requests.map(({ dueMs }) => Math.round(dueMs))).toEqual([0, 667, 1333]);
  });

  it("leaves out prompts that are too long, and says how many", () => {
    const limits = { ...LIMITS, promptTokensMax: 1536 };
    const work = planTrace(traceOf(2), { load, limits }, seededRandom(1));
    expect(work.requests.length).toBe(4);
    expect(work.description.join(" ")).toContain("never taken: 2 prompts over 1536 tokens");
    const none = { ...LIMITS, promptTokensMax: 10 };
    expect(() => planTrace(traceOf(2), { load, limits: none }, seededRandom(1))).toThrowError(
      "none of the trace's 6 prompts is within 10 tokens",
    );
  });

  it("takes one moment as it is", () => {
    const [first] = traceOf(1);
    const work = planTrace(first ? [first] : [], { load, limits: LIMITS }, seededRandom(1));
    expect(work.requests.map(({ dueMs }) => dueMs)).toEqual([0]);
    expect(work.description[0]).toContain("all at once");
  });
});
