/** Wire bytes to queryable entry: decode, key, handle map, copies, index. One thread, no store. */
import { HotIndex } from "../src/indexer/hot-index.ts";
import { Residency } from "../src/indexer/residency.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";
import type { BenchCase } from "./harness.ts";
import { removeMessages, storeMessages, writePath } from "./workload.ts";

const BLOCKS = 2048;

export function ingestCases(hasher: BlockHasher): BenchCase[] {
  const path = (): ((payload: Uint8Array) => void) =>
    writePath(hasher, new Residency({ index: new HotIndex(), entriesMax: 10_000_000 }));
  const feed = (blocksPerEvent: number): BenchCase => {
    const messages = storeMessages(BLOCKS, blocksPerEvent);
    return {
      name: `ingest.wire.${blocksPerEvent}`,
      unit: "ns/block",
      blocks: BLOCKS,
      run: (): void => {
        const accept = path();
        for (const message of messages) accept(message);
      },
    };
  };
  const stores = storeMessages(BLOCKS, 32);
  const removes = removeMessages(BLOCKS);
  let accept = path();
  return [
    feed(32),
    feed(1),
    {
      name: "ingest.remove.1",
      unit: "ns/block",
      blocks: BLOCKS,
      prepare: (): void => {
        accept = path();
        for (const message of stores) accept(message);
      },
      run: (): void => {
        for (const message of removes) accept(message);
      },
    },
  ];
}
