import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { type BlockKey, blockKey, endpointId, type Holder, holderName } from "../core/ids.ts";
import { TIERS } from "../tiers/tier.ts";
import { blockIndexContract } from "./block-index.contract.ts";
import type { PrefixMatch } from "./block-index.ts";
import { HotIndex } from "./hot-index.ts";

blockIndexContract(() => new HotIndex());

const holders = Array.from({ length: 12 }, (_, position): Holder => {
  return { endpointId: endpointId(`10.0.0.${position >> 1}:8000`), rank: position & 1 };
});
/** Two chains that share their first blocks, as prompts with one system prompt do. */
const keyOf = (chain: number, depth: number): BlockKey =>
  blockKey(BigInt(depth + (depth < 10 ? 0 : 1000 * chain)) * 0x9e37_79b9_7f4a_7c15n);
const promptOf = (chain: number, blocks: number): BigUint64Array =>
  BigUint64Array.from({ length: blocks }, (_, depth) => keyOf(chain, depth));

describe("hot index", () => {
  it("answers as the plain index does, after any history of runs of blocks", () => {
    const operation = fc.record({
      kind: fc.constantFrom("store", "store", "remove", "hole"),
      holder: fc.nat({ max: holders.length - 1 }),
      tier: fc.constantFrom("gpu", "gpu", ...TIERS),
      chain: fc.nat({ max: 2 }),
      start: fc.nat({ max: 60 }),
      length: fc.nat({ max: 40 }),
      isBackwards: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60, size: "max" }), (operations) => {
        const hot = new HotIndex();
        const plain = new MemoryIndex();
        for (const { kind, holder, tier, chain, start, length, isBackwards } of operations) {
          const from = kind === "store" && holder % 3 > 0 ? 0 : start;
          for (let step = 0; step < (kind === "hole" ? 1 : length); step += 1) {
            const key = keyOf(chain, isBackwards ? from + length - step : from + step);
            // A new object each time, as decoded batches bring them.
            const at: Holder = { ...(holders[holder] ?? never()) };
            const write = kind === "store" ? "store" : "remove";
            hot[write](at, tier, key);
            plain[write](at, tier, key);
          }
        }
        for (const chain of [0, 1, 2]) {
          for (const blocks of [0, 1, 9, 100]) {
            const prompt = promptOf(chain, blocks);
            expect(inOrder(hot.prefix(prompt))).toEqual(inOrder(plain.prefix(prompt)));
          }
          for (let depth = 0; depth < 100; depth += 1) {
            expect(hot.residency(keyOf(chain, depth))).toEqual(
              plain.residency(keyOf(chain, depth)),
            );
          }
        }
        expect(hot.stats()).toEqual(plain.stats());
      }),
      { numRuns: 200 },
    );
  });

  it("answers as the plain index does while sets of holders come and go by the thousand", () => {
    const hot = new HotIndex();
    const plain = new MemoryIndex();
    // Each number stands for its own set of 12 holders' bits; all 4,096 sets occur, twice over.
    const both = (write: "store" | "remove", set: number, depth: number): void => {
      for (const [bit, holder] of holders.entries()) {
        if ((set & (1 << bit)) === 0) continue;
        hot[write](holder, "gpu", keyOf(0, depth));
        plain[write](holder, "gpu", keyOf(0, depth));
      }
    };
    for (let round = 0; round < 8192; round += 1) {
      const depth = round % 32;
      if (round >= 32) both("remove", (round - 32) & 4095, depth);
      both("store", round & 4095, depth);
      if (round % 64 === 0)
        expect(hot.match(promptOf(0, 32))).toEqual(plain.match(promptOf(0, 32)));
    }
    expect(hot.stats()).toEqual(plain.stats());
  });
});

/** Holders of what can be reached, in the order of their names. */
function inOrder(prefix: PrefixMatch): PrefixMatch {
  const reachable = prefix.reachable.toSorted((a, b) =>
    holderName(a.holder) < holderName(b.holder) ? -1 : 1,
  );
  return { ...prefix, reachable };
}

function never(): Holder {
  throw new Error("no such holder");
}
