import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type EndpointId, endpointId } from "../core/ids.ts";
import { InflightBlocks } from "./inflight-blocks.ts";

const podA = endpointId("10.0.0.1:8000");
const podB = endpointId("10.0.0.2:8000");
/** Prompts of a small tree: each begins with one before it. */
const PROMPTS = [[1], [1, 2], [1, 2, 3], [1, 2, 4], [5], [5, 6, 7]].map((keys) =>
  BigUint64Array.from(keys, BigInt),
);

describe("InflightBlocks", () => {
  it("counts a block once however many requests have it, until the last has left", () => {
    const blocks = new InflightBlocks();
    const keys = BigUint64Array.of(1n, 2n);
    expect(blocks.add(podA, keys)).toBe(2);
    expect(blocks.add(podA, BigUint64Array.of(1n, 2n, 3n))).toBe(3);
    expect(blocks.remove(podA, BigUint64Array.of(1n, 2n, 3n))).toBe(2);
    expect(blocks.leading(keys)).toEqual([{ endpointId: podA, blocks: 2 }]);
    expect(blocks.remove(podA, keys)).toBe(0);
    expect(blocks.leading(keys)).toEqual([]);
    expect(blocks.remove(podB, keys)).toBe(0);
  });

  it("agrees with a brute-force model", () => {
    const step = fc.record({
      pod: fc.constantFrom(podA, podB),
      prompt: fc.nat(PROMPTS.length - 1),
      isAdd: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const blocks = new InflightBlocks();
        const inFlight = new Map<EndpointId, number[]>([
          [podA, []],
          [podB, []],
        ]);
        for (const { pod, prompt, isAdd } of steps) {
          const prompts = inFlight.get(pod) ?? [];
          const keys = PROMPTS[prompt] ?? new BigUint64Array(0);
          if (isAdd) prompts.push(prompt);
          else if (prompts.includes(prompt)) prompts.splice(prompts.indexOf(prompt), 1);
          else continue;
          const held = new Set(prompts.flatMap((each) => [...(PROMPTS[each] ?? [])]));
          const counted = isAdd ? blocks.add(pod, keys) : blocks.remove(pod, keys);
          expect(counted).toBe(held.size);
          for (const asked of PROMPTS) {
            const missing = asked.findIndex((key) => !held.has(key));
            const expected = missing < 0 ? asked.length : missing;
            const found = blocks.leading(asked).find(({ endpointId: id }) => id === pod);
            expect(found?.blocks ?? 0).toBe(expected);
          }
        }
      }),
    );
  });
});
