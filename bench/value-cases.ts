/** Bytes per block of what lies in memory. */
import { blockKey } from "../src/core/ids.ts";
import { HandleMap } from "../src/events/handle-map.ts";
import { HotIndex } from "../src/indexer/hot-index.ts";
import { Residency } from "../src/indexer/residency.ts";
import type { ValueCase } from "./harness.ts";
import { holderOf, wide } from "./workload.ts";

const MEMORY_BLOCKS = 1_000_000;
const QUICK_BLOCKS = 2048;

/** Bytes of typed arrays for each block, by tables that grew to a million. */
export function memoryCases(): ValueCase[] {
  const blocksOf = (isQuick: boolean): number => (isQuick ? QUICK_BLOCKS : MEMORY_BLOCKS);
  const keyOf = (block: number): bigint => BigInt.asUintN(64, wide(block) * 0x9e37_79b9_7f4a_7c15n);
  const indexBytes = (blocks: number, holders: number): number => {
    const index = new HotIndex();
    for (let holder = 0; holder < holders; holder += 1) {
      const held = holderOf(holder);
      for (let block = 0; block < blocks; block += 1)
        index.store(held, "gpu", blockKey(keyOf(block)));
    }
    return index.byteLength / blocks;
  };
  const value = (name: string, bytesPerBlock: (blocks: number) => number): ValueCase => ({
    name,
    unit: "bytes",
    value: async (isQuick) => bytesPerBlock(blocksOf(isQuick)),
  });
  return [
    value("memory.private", (blocks) => indexBytes(blocks, 1)),
    value("memory.shared", (blocks) => indexBytes(blocks, 2) - indexBytes(blocks, 1)),
    value("memory.handle", (blocks) => {
      const map = new HandleMap();
      for (let block = 0; block < blocks; block += 1) {
        const one = {
          handles: BigUint64Array.of(wide(block)),
          keys: BigUint64Array.of(keyOf(block)),
        };
        map.addAll(one, "placed");
      }
      return map.byteLength / blocks;
    }),
    value("memory.copies", (blocks) => {
      const residency = new Residency({ index: new HotIndex(), entriesMax: blocks });
      const handles = BigUint64Array.from({ length: blocks }, (_, block) => wide(block));
      residency.stored(
        holderOf(0),
        "gpu",
        handles,
        handles.map((_, block) => keyOf(block)),
      );
      return residency.byteLength / blocks;
    }),
  ];
}
