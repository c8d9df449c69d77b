/** What every index must do; each implementation's test runs this suite. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blockKey, endpointId, type Holder } from "../core/ids.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";
import type { BlockIndex } from "./block-index.ts";

const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };
const podBRank1: Holder = { ...podB, rank: 1 };
const holders = [podA, podB, podBRank1];

const promptOf = (blocks: number): BigUint64Array =>
  BigUint64Array.from({ length: blocks }, (_, depth) => BigInt(depth + 100));
const none = { gpu: 0, cpu: 0, nvme: 0, shared: 0 };

export function blockIndexContract(createIndex: () => BlockIndex): void {
  const storeAll = (index: BlockIndex, holder: Holder, tier: Tier, depths: number[]): void => {
    for (const depth of depths) index.store(holder, tier, blockKey(BigInt(depth + 100)));
  };

  describe("longest prefix", () => {
    it("is empty when nothing is held", () => {
      expect(createIndex().match(promptOf(3))).toEqual([]);
    });

    it("ends at the first gap, even if later blocks are held", () => {
      const index = createIndex();
      storeAll(index, podA, "gpu", [0, 2, 3]);
      storeAll(index, podB, "gpu", [1, 2, 3]);
      expect(index.match(promptOf(4))).toEqual([
        { holder: podA, gpuBlocks: 1, blocks: 1, blocksByTier: { ...none, gpu: 1 } },
      ]);
    });

    it("continues in lower tiers and counts each block under its fastest tier", () => {
      const index = createIndex();
      storeAll(index, podA, "gpu", [0, 1, 3]);
      storeAll(index, podA, "cpu", [1, 2]);
      storeAll(index, podA, "nvme", [2, 4]);
      expect(index.match(promptOf(5))).toEqual([
        {
          holder: podA,
          gpuBlocks: 2,
          blocks: 5,
          blocksByTier: { gpu: 3, cpu: 1, nvme: 1, shared: 0 },
        },
      ]);
    });

    it("keeps the ranks of an endpoint apart", () => {
      const index = createIndex();
      storeAll(index, podB, "gpu", [0]);
      storeAll(index, podBRank1, "gpu", [0, 1]);
      expect(index.match(promptOf(2)).map(({ holder, blocks }) => [holder.rank, blocks])).toEqual([
        [0, 1],
        [1, 2],
      ]);
    });
  });

  it("keeps a block until it is removed as often as stored, and forgets empty blocks", () => {
    const index = createIndex();
    storeAll(index, podA, "gpu", [0, 0, 1]);
    storeAll(index, podB, "cpu", [0]);
    expect(index.stats()).toEqual({ blocks: 2, entriesByTier: { ...none, gpu: 3, cpu: 1 } });
    index.remove(podA, "gpu", blockKey(100n));
    expect(index.residency(blockKey(100n))).toHaveLength(2);
    index.remove(podA, "gpu", blockKey(100n));
    index.remove(podA, "gpu", blockKey(100n));
    index.remove(podA, "nvme", blockKey(101n));
    expect(index.residency(blockKey(100n))).toEqual([{ holder: podB, tier: "cpu" }]);
    index.remove(podB, "cpu", blockKey(100n));
    expect(index.stats()).toEqual({ blocks: 1, entriesByTier: { ...none, gpu: 1 } });
  });

  it("agrees with a brute-force model under any history", () => {
    const operation = fc.record({
      isStore: fc.boolean(),
      holder: fc.constantFrom(...holders),
      tier: fc.constantFrom(...TIERS),
      depth: fc.integer({ min: 0, max: 6 }),
      /** Blocks of one batch call; 0 for a call of a single block. */
      batchBlocks: fc.integer({ min: 0, max: 5 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 80 }), (operations) => {
        const index = createIndex();
        const copies = new Map<string, number>();
        for (const { isStore, holder, tier, depth, batchBlocks } of operations) {
          const depths = Array.from({ length: Math.max(1, batchBlocks) }, (_, i) => depth + i);
          const isHeld = (each: number): boolean =>
            TIERS.some((any) => copies.get(`${holders.indexOf(holder)}/${any}/${each}`));
          const repeated = [...depths.keys()].filter((place) => isHeld(depth + place));
          for (const each of depths) {
            const entry = `${holders.indexOf(holder)}/${tier}/${each}`;
            copies.set(entry, Math.max(0, (copies.get(entry) ?? 0) + (isStore ? 1 : -1)));
          }
          const keys = BigUint64Array.from(depths, (each) => BigInt(each + 100));
          const parents = BigUint64Array.from(depths, (each) =>
            BigInt(each % 3 === 0 ? each + 99 : 0),
          );
          if (batchBlocks > 0 && isStore) {
            index.storeMany(holder, tier, keys, parents);
            expect(index.repeated).toEqual(repeated);
          } else if (batchBlocks > 0) index.removeMany(holder, tier, keys);
          else index[isStore ? "store" : "remove"](holder, tier, blockKey(keys[0] ?? 0n));
        }
        const expected = holders.flatMap((holder, position) => {
          const fastest = (depth: number): Tier | undefined =>
            TIERS.find((tier) => copies.get(`${position}/${tier}/${depth}`));
          const blocksByTier: Record<Tier, number> = { ...none };
          let blocks = 0;
          let gpuBlocks = 0;
          for (let tier = fastest(0); tier !== undefined; tier = fastest(blocks)) {
            blocksByTier[tier] += 1;
            blocks += 1;
          }
          while (copies.get(`${position}/gpu/${gpuBlocks}`)) gpuBlocks += 1;
          return blocks === 0 ? [] : [{ holder, gpuBlocks, blocks, blocksByTier }];
        });
        const found = index.match(promptOf(12));
        expect(found).toHaveLength(expected.length);
        expect(found).toEqual(expect.arrayContaining(expected));
        const { entriesByTier } = index.stats();
        const copiesTotal = [...copies.values()].reduce((sum, count) => sum + count, 0);
        expect(TIERS.reduce((sum, tier) => sum + entriesByTier[tier], 0)).toBe(copiesTotal);
      }),
    );
  });
}
