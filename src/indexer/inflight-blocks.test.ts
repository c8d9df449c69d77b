import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type EndpointId, endpointId } from "../core/ids.ts";
import { InflightBlocks } from "./inflight-blocks.ts";

const podA = endpointId("10.0.0.1:8000");
const podB = endpointId("10.0.0.2:8000");
/** Keys of a prompt of zeros and ones: those of prompts that begin alike begin alike. */
function keysOf(tokens: readonly number[]): BigUint64Array {
  let key = 1n;
  return BigUint64Array.from(tokens, (token) => {
    key = 2n * key + BigInt(token);
    return key << 20n;
  });
}

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
    const promptArb = fc.array(fc.nat(1), { maxLength: 8 });
    const step = fc.record({
      pod: fc.constantFrom(podA, podB),
      prompt: promptArb,
      removed: fc.option(fc.nat(20)),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), promptArb, (steps, asked) => {
        const blocks = new InflightBlocks();
        const inFlight = new Map<EndpointId, BigUint64Array[]>([
          [podA, []],
          [podB, []],
        ]);
        const check = (pod: EndpointId, counted: number): void => {
          const held = new Set((inFlight.get(pod) ?? []).flatMap((keys) => [...keys]));
          expect(counted).toBe(held.size);
          const keys = keysOf(asked);
          const missing = keys.findIndex((key) => !held.has(key));
          const found = blocks.leading(keys).find(({ endpointId: id }) => id === pod);
          expect(found?.blocks ?? 0).toBe(missing < 0 ? keys.length : missing);
        };
        for (const { pod, prompt, removed } of steps) {
          const prompts = inFlight.get(pod) ?? [];
          if (removed === null) {
            prompts.push(keysOf(prompt));
            check(pod, blocks.add(pod, keysOf(prompt)));
          } else {
            const [gone] = prompts.splice(removed, 1);
            if (gone !== undefined) check(pod, blocks.remove(pod, gone));
          }
        }
        for (const [pod, prompts] of inFlight) {
          for (let gone = prompts.pop(); gone !== undefined; gone = prompts.pop()) {
            check(pod, blocks.remove(pod, gone));
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
