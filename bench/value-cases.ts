/** Rows that are one value instead of the time of a call: memory, and the rate with the store on. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { WriteBehind } from "../src/app/write-behind.ts";
import { blockKey } from "../src/core/ids.ts";
import { silentLog } from "../src/core/log.ts";
import { silentMeter } from "../src/core/meter.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { HandleMap } from "../src/events/handle-map.ts";
import { HotIndex } from "../src/indexer/hot-index.ts";
import { LmdbStore } from "../src/indexer/lmdb-store.ts";
import { Residency } from "../src/indexer/residency.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";
import type { ValueCase } from "./harness.ts";
import {
  BLOCK,
  holderOf,
  NAMESPACE,
  storeMessages,
  tokensOf,
  wide,
  writePath,
} from "./workload.ts";

const MEMORY_BLOCKS = 1_000_000;
const SUSTAINED_BLOCKS = 262_144;
const QUICK_BLOCKS = 2048;
/** Blocks of the prompt that is looked up every millisecond meanwhile. */
const QUERY_BLOCKS = 2048;
const SLICE_MS = 1;
const FLUSH_MS = 200;

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
        map.addAll(one, 0, "told");
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

/** Blocks per second until the last one is committed, with a match every millisecond. */
export function sustainedCase(hasher: BlockHasher): ValueCase {
  const value = async (isQuick: boolean): Promise<number> => {
    const blocks = isQuick ? QUICK_BLOCKS : SUSTAINED_BLOCKS;
    const messages = storeMessages(blocks, 32);
    const query = { parent: hasher.rootKey(NAMESPACE), tokens: tokensOf(QUERY_BLOCKS) };
    const keys = hasher.chainKeys({ ...query, blockSizeTokens: BLOCK });
    const path = mkdtempSync(join(tmpdir(), "kvatlas-bench-"));
    const index = new HotIndex();
    const residency = new Residency({ index, entriesMax: 10_000_000 });
    const ports = { clock: nodeClock, log: silentLog, meter: silentMeter };
    const store = new LmdbStore(path);
    const writeBehind = new WriteBehind({ ...ports, store, residency, flushMs: FLUSH_MS });
    const accept = writePath(hasher, residency);
    const startMs = nodeClock.nowMs();
    let sliceEndMs = startMs + SLICE_MS;
    for (const message of messages) {
      accept(message);
      if (nodeClock.nowMs() < sliceEndMs) continue;
      index.match(keys);
      await setImmediate();
      sliceEndMs = nodeClock.nowMs() + SLICE_MS;
    }
    await writeBehind.stop();
    const seconds = (nodeClock.nowMs() - startMs) / 1000;
    rmSync(path, { recursive: true, force: true });
    return blocks / seconds;
  };
  return { name: "ingest.sustained", unit: "blocks/s", value };
}
