/**
 * Reads the hot table, in any thread, beside its writer and without a lock: every answer was true at
 * one moment of the call. Cost of a match: 0.3 us and about 0.7 ns per block, half of it copying.
 */
import { assert } from "../core/assert.ts";
import type { BlockKey, Holder } from "../core/ids.ts";
import { MemoryCopy } from "../core/memory-copy.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";
import type { HolderMatch, IndexReader, IndexStats, PrefixMatch } from "./block-index.ts";
import { HolderNames } from "./holder-names.ts";
import { openTable, TABLE_READERS_MAX, type TableHandle, type TableWasm } from "./table-memory.ts";

/** A slot that another holder got meanwhile begins an answer anew; at most so often. */
const RENAMED_MAX = 8;
/** A holder's progress in words, each with its place: see PROGRESS_LOG in wasm/hot-table/layout.ts. */
const PROGRESS_WORDS = 8;
const CPU_AT = 1;
const NVME_AT = 2;
const SHARED_AT = 3;
const BLOCKS_AT = 4;
const GPU_BLOCKS_AT = 5;
const GPU_AT = 6;
const REACHABLE_AT = 7;

export class TableReader implements IndexReader {
  readonly #wasm: TableWasm;
  readonly #names: HolderNames;
  readonly #reader: number;
  /** Holders met, blocks available, blocks in the shared tier. */
  readonly #counts: Uint32Array;
  readonly #keys: MemoryCopy;
  readonly #codes: Uint16Array;
  readonly #slots: Uint32Array;
  readonly #progress: Uint32Array;
  readonly #blocks: Uint32Array;
  readonly #entries: Uint32Array;
  readonly #onAbandoned: () => void;

  /** `onAbandoned`: an answer was given up, and is empty. */
  constructor(handle: TableHandle, onAbandoned: () => void = () => {}) {
    this.#onAbandoned = onAbandoned;
    const { buffer } = handle.memory;
    const wasm = openTable(handle);
    this.#wasm = wasm;
    this.#names = new HolderNames(handle, wasm);
    this.#reader = wasm.addReader();
    assert(this.#reader < TABLE_READERS_MAX, "too many readers", { reader: this.#reader });
    const at = wasm.readerAt(this.#reader);
    const holdersMax = wasm.HOLDERS_MAX.value;
    this.#counts = new Uint32Array(buffer, at, 3);
    const { READER_KEYS, MATCH_KEYS_MAX } = wasm;
    const keys = new BigUint64Array(buffer, at + READER_KEYS.value, MATCH_KEYS_MAX.value);
    this.#keys = new MemoryCopy(handle.memory, keys);
    this.#codes = new Uint16Array(buffer, keys.byteOffset, 4 * keys.length);
    this.#slots = new Uint32Array(buffer, at + wasm.READER_HOLDERS.value, holdersMax);
    this.#progress = new Uint32Array(
      buffer,
      at + wasm.READER_PROGRESS.value,
      PROGRESS_WORDS * holdersMax,
    );
    this.#blocks = new Uint32Array(buffer, wasm.BLOCKS_AT.value, 1);
    this.#entries = new Uint32Array(buffer, wasm.ENTRIES_AT.value, TIERS.length);
  }

  match(keys: BigUint64Array): HolderMatch[] {
    for (let tries = 0; tries < RENAMED_MAX; tries += 1) {
      const givings = this.#names.begin();
      const matches = this.#matches(keys);
      if (this.#names.isSame(givings)) return matches;
    }
    this.#onAbandoned();
    return [];
  }

  prefix(keys: BigUint64Array): PrefixMatch {
    for (let tries = 0; tries < RENAMED_MAX; tries += 1) {
      const givings = this.#names.begin();
      const prefix = this.#prefix(keys);
      if (this.#names.isSame(givings)) return prefix;
    }
    this.#onAbandoned();
    return { matches: [], reachable: [], sharedBlocks: 0, availableBlocks: 0 };
  }

  residency(key: BlockKey): { holder: Holder; tier: Tier }[] {
    for (let tries = 0; tries < RENAMED_MAX; tries += 1) {
      const givings = this.#names.begin();
      const places = this.#places(key);
      if (this.#names.isSame(givings)) return places;
    }
    this.#onAbandoned();
    return [];
  }

  stats(): IndexStats {
    const [gpu = 0, cpu = 0, nvme = 0, shared = 0] = this.#entries;
    return { blocks: this.#blocks[0] ?? 0, entriesByTier: { gpu, cpu, nvme, shared } };
  }

  #matches(keys: BigUint64Array): HolderMatch[] {
    const holders = this.#walk(keys);
    const matches: HolderMatch[] = [];
    for (let position = 0; position < holders; position += 1) {
      const slot = this.#slots[position] ?? 0;
      const at = PROGRESS_WORDS * slot;
      const blocks = this.#progress[at + BLOCKS_AT] ?? 0;
      if (blocks > 0) matches.push(this.#matchOf(slot, at, blocks));
    }
    return matches;
  }

  #prefix(keys: BigUint64Array): PrefixMatch {
    const matches = this.#matches(keys);
    const [holders = 0, availableBlocks = 0, sharedBlocks = 0] = this.#counts;
    const reachable: { holder: Holder; blocks: number }[] = [];
    for (const slot of this.#slots.subarray(0, holders)) {
      const at = PROGRESS_WORDS * slot;
      const blocks = this.#progress[at + REACHABLE_AT] ?? 0;
      if (this.#progress[at + BLOCKS_AT] === 0 && blocks === sharedBlocks) continue;
      reachable.push({ holder: this.#names.holder(slot), blocks });
    }
    return { matches, reachable, sharedBlocks, availableBlocks };
  }

  #places(key: BlockKey): { holder: Holder; tier: Tier }[] {
    const count = this.#wasm.residency(this.#reader, key);
    if (count < 0) this.#onAbandoned();
    return Array.from(this.#codes.subarray(0, Math.max(count, 0)), (code) => ({
      holder: this.#names.holder(code >> 2),
      tier: tierOfCode(code),
    }));
  }

  /** How many holders were met; their progress is in the shared memory until the next walk. */
  #walk(keys: BigUint64Array): number {
    if (this.#wasm.match(this.#reader, this.#keys.copy(keys)) === 0) this.#onAbandoned();
    return this.#counts[0] ?? 0;
  }

  #matchOf(slot: number, at: number, blocks: number): HolderMatch {
    const progress = this.#progress;
    return {
      holder: this.#names.holder(slot),
      gpuBlocks: progress[at + GPU_BLOCKS_AT] ?? 0,
      blocks,
      blocksByTier: {
        gpu: progress[at + GPU_AT] ?? 0,
        cpu: progress[at + CPU_AT] ?? 0,
        nvme: progress[at + NVME_AT] ?? 0,
        shared: progress[at + SHARED_AT] ?? 0,
      },
    };
  }
}

function tierOfCode(code: number): Tier {
  const tier = TIERS[code & 3];
  assert(tier !== undefined, "code without a tier", { code });
  return tier;
}
