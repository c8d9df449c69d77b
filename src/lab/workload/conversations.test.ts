import { describe, expect, it } from "vitest";
import { seededRandom } from "../../core/random.ts";
import { CONVERSATION_SHAPE, planConversations } from "./conversations.ts";
import { measureReuse } from "./infinite-cache.ts";
import type { PlannedWork } from "./planned-work.ts";

const LOAD = { seconds: 35, newTokensPerSecond: 16_000 };

describe("conversations", () => {
  const work = plan(1);

  it("are the same work for the same seed, and other work for another", () => {
    expect(plan(1)).toEqual(work);
    expect(plan(2).requests[0]?.prompt).not.toEqual(work.requests[0]?.prompt);
  });

  it("come in order, within the time, with token ids that every vocabulary has", () => {
    const due = work.requests.map(({ dueMs }) => dueMs);
    expect(due).toEqual(due.toSorted((a, b) => a - b));
    expect(due.every((dueMs) => dueMs >= 0 && dueMs < 35_000)).toBe(true);
    for (const { prompt } of work.requests) expect(Math.max(...prompt)).toBeLessThan(128_000);
  });

  it("continue the prompt of the turn before with its answer and a message", () => {
    const { answerTokens, messageTokens } = CONVERSATION_SHAPE;
    let continued = 0;
    for (const [index, { prompt, after }] of work.requests.entries()) {
      if (after === null) continue;
      continued += 1;
      expect(after.index).toBeLessThan(index);
      const previous = work.requests[after.index];
      const before = previous?.prompt ?? new Uint32Array(0);
      expect(prompt.subarray(0, before.length)).toEqual(before);
      const message = prompt.length - before.length - (previous?.outputTokens ?? 0);
      expect(message).toBeGreaterThanOrEqual(messageTokens.min);
      expect(message).toBeLessThanOrEqual(messageTokens.max);
      expect(previous?.outputTokens).toBeGreaterThanOrEqual(answerTokens.min);
      expect(previous?.outputTokens).toBeLessThanOrEqual(answerTokens.max);
    }
    expect(continued).toBeGreaterThan(work.requests.length / 3);
  });

  it("have about 70 % reusable prompt tokens, and the new tokens that were asked for", () => {
    for (const seed of [1, 2, 3, 4]) {
      const { promptTokens, reusableTokens } = measureReuse(
        plan(seed).requests.map(({ prompt }) => prompt),
        16,
      );
      expect(reusableTokens / promptTokens).toBeGreaterThan(0.66);
      expect(reusableTokens / promptTokens).toBeLessThan(0.76);
      const asked = LOAD.seconds * LOAD.newTokensPerSecond;
      expect((promptTokens - reusableTokens) / asked).toBeGreaterThan(0.75);
      expect((promptTokens - reusableTokens) / asked).toBeLessThan(1.25);
    }
  });

  it("share a few system prompts, of which the first is the most popular", () => {
    const starts = work.requests.map(({ prompt }) => prompt.slice(0, 64).join());
    const counts = [...Map.groupBy(starts, (start) => start).values()].map(({ length }) => length);
    expect(counts.length).toBe(CONVERSATION_SHAPE.systemPrompts);
    expect(Math.max(...counts)).toBeGreaterThan(starts.length / 5);
  });
});

function plan(seed: number): PlannedWork {
  return planConversations(CONVERSATION_SHAPE, LOAD, seededRandom(seed));
}
