/** The store of record: the rate with it on, bytes per block on disk, and restarts from it. */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { IndexCore } from "../src/app/index-core.ts";
import { WriteBehind } from "../src/app/write-behind.ts";
import { silentLog } from "../src/core/log.ts";
import { silentMeter } from "../src/core/meter.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { indexerConfigSchema } from "../src/indexer/config.ts";
import { EvictionBoard } from "../src/indexer/eviction-board.ts";
import { HotIndex } from "../src/indexer/hot-index.ts";
import { LmdbStore } from "../src/indexer/lmdb-store.ts";
import { LmdbStoreThread } from "../src/indexer/lmdb-store-thread.ts";
import { Residency } from "../src/indexer/residency.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";
import type { ValueCase } from "./harness.ts";
import {
  BLOCK,
  holderOf,
  NAMESPACE,
  NO_INDEX,
  storeMessages,
  tokensOf,
  wide,
  writePath,
} from "./workload.ts";

const SUSTAINED_BLOCKS = 524_288;
const DISK_BLOCKS = 1_000_000;
const RESTART_BLOCKS = 10_000_000;
const RESTART_HOLDERS = 64;
const QUICK_BLOCKS = 2048;
/** Blocks of the prompt that is looked up every millisecond meanwhile. */
const QUERY_BLOCKS = 2048;
const SLICE_MS = 1;
const FLUSH_MS = 200;
const HANDLE_BYTES = 8;
const PORTS = { clock: nodeClock, log: silentLog, meter: silentMeter } as const;

export function storeCases(hasher: BlockHasher): ValueCase[] {
  return [
    { name: "ingest.sustained", unit: "blocks/s", value: (isQuick) => sustained(hasher, isQuick) },
    { name: "disk.block", unit: "bytes", value: (isQuick) => diskBytes(isQuick) },
    {
      name: "restart.10M.serving",
      unit: "s",
      value: (isQuick) => restartSeconds(isQuick, (core) => core.opened),
    },
    {
      name: "restart.10M.memory",
      unit: "s",
      value: (isQuick) => restartSeconds(isQuick, (core) => core.restored),
    },
  ];
}

/**
 * Blocks per second until the last one is committed, with a match every millisecond: by the CPU time of
 * the busiest thread, as on a machine where each has a core. What ingests and asks is one thread, what
 * writes, collects garbage and compiles are the others.
 */
async function sustained(hasher: BlockHasher, isQuick: boolean): Promise<number> {
  const blocks = isQuick ? QUICK_BLOCKS : SUSTAINED_BLOCKS;
  const messages = storeMessages(blocks, 32);
  const query = { parent: hasher.rootKey(NAMESPACE), tokens: tokensOf(QUERY_BLOCKS) };
  const keys = hasher.chainKeys({ ...query, blockSizeTokens: BLOCK });
  return inFolder(async (path) => {
    const index = new HotIndex();
    const residency = new Residency({ index, entriesMax: RESTART_BLOCKS });
    const store = new LmdbStoreThread();
    await store.open(path, 0);
    const writeBehind = new WriteBehind({ ...PORTS, store, residency, flushMs: FLUSH_MS });
    const accept = writePath(hasher, residency);
    const allBefore = process.cpuUsage();
    const ownBefore = process.threadCpuUsage();
    let sliceEndMs = nodeClock.nowMs() + SLICE_MS;
    for (const message of messages) {
      accept(message);
      if (nodeClock.nowMs() < sliceEndMs) continue;
      index.match(keys);
      await setImmediate();
      sliceEndMs = nodeClock.nowMs() + SLICE_MS;
    }
    await writeBehind.stop();
    const own = secondsOf(process.threadCpuUsage(ownBefore));
    const all = secondsOf(process.cpuUsage(allBefore));
    return blocks / Math.max(own, all - own);
  });
}

function secondsOf({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) / 1_000_000;
}

/** Bytes of the file for each block beside its handle, as the write-behind leaves it. */
function diskBytes(isQuick: boolean): Promise<number> {
  const blocks = isQuick ? QUICK_BLOCKS : DISK_BLOCKS;
  return inFolder(async (path) => {
    await fill(path, { blocks, holders: 4 });
    return statSync(join(path, "data.mdb")).size / blocks - HANDLE_BYTES;
  });
}

/** CPU seconds of all threads from nothing to a milestone of a start with a full store. */
function restartSeconds(
  isQuick: boolean,
  milestone: (core: IndexCore) => Promise<unknown>,
): Promise<number> {
  const blocks = isQuick ? QUICK_BLOCKS : RESTART_BLOCKS;
  return inFolder(async (path) => {
    await fill(path, { blocks, holders: RESTART_HOLDERS });
    const config = indexerConfigSchema.parse({ path, bytesMax: 2 ** 32 });
    const before = process.cpuUsage();
    const core = new IndexCore(config, { ...PORTS, evictions: new EvictionBoard() });
    await milestone(core);
    const seconds = secondsOf(process.cpuUsage(before));
    await core.stop();
    return seconds;
  });
}

/** A store with so many blocks, in portions as the write-behind makes them. */
async function fill(
  path: string,
  { blocks, holders }: { readonly blocks: number; readonly holders: number },
): Promise<void> {
  const residency = new Residency({ index: NO_INDEX, entriesMax: blocks });
  const store = new LmdbStore(path);
  const each = Math.ceil(blocks / holders);
  for (let number = 0; number < holders; number += 1) {
    const handles = BigUint64Array.from({ length: each }, (_, block) => wide(block));
    const first = BigInt(number * each);
    const keys = handles.map((handle) => BigInt.asUintN(64, (handle + first) * 0x9e37_79b9n ** 5n));
    const holder = holderOf(number);
    residency.stored(holder, "gpu", handles, keys);
    residency.setCursor(holder, {
      ...{ state: "EXACT", reason: null, epoch: 1, seq: 1, engineMs: 1 },
      ...{ blockSizesTokens: [BLOCK], model: "bench", ignoredGroups: [] },
    });
    store.write(residency.takeFlush(Number.POSITIVE_INFINITY));
  }
  await store.close();
}

async function inFolder(measure: (path: string) => Promise<number>): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-bench-"));
  try {
    return await measure(join(folder, "store"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
