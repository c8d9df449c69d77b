/**
 * One holder's map from engine handles to our keys.
 *
 * An engine names parents and removals by its own hashes only. A removed block's handle is kept as a
 * tombstone for a while, because engines store children under parents that are already evicted, and
 * because another handle for its key shows that the key is ambiguous (see ambiguous-keys.ts, which finds
 * out by itself where both have copies). The map lies in the memory of our WebAssembly
 * (wasm/handle-map/map.ts), one for all maps of a thread: 17 bytes a row, 5 to 8 of slots, 26 to 48 for each
 * tombstone; large columns grow by a tenth. What a map had is given back when it is collected.
 */
import { assert } from "../core/assert.ts";
import { type BlockKey, blockKey, type EngineKey, engineKey } from "../core/ids.ts";
import { Slab } from "../core/slab.ts";
import { KeyedRun, RUN_BLOCK_WORDS } from "./keyed-run.ts";
import type { PlainRun } from "./plain-batch.ts";
import {
  COUNTS,
  core,
  coreViews,
  HANDLES,
  KEYS,
  OUT,
  ROOT,
  ROWS,
  SEED,
  SHARED,
} from "./relay-core.ts";

/** Blocks of one holder; an engine with more GPU, CPU and NVMe blocks than this is refused. */
export const HANDLES_MAX = 8_388_608;
/** Handles remembered after their block is gone, oldest forgotten first. */
export const TOMBSTONES_MAX = 65_536;

/** No row: an absent handle. */
const NO_ROW = -1;
/** What the column of copies says where the count is aside: this many or more. */
const MANY = 255;
/** Up to here a loop copies faster than a call of `set` with its view. */
const COPIED_BY_LOOP = 32;

/**
 * - placed: the key is that of the handle
 * - claimed: the key follows from an event, and may be that of another handle too
 */
export type KeyOrigin = "placed" | "claimed";

export interface Blocks {
  readonly handles: BigUint64Array;
  readonly keys: BigUint64Array;
  /** Where the map writes, or reads, the row of each. */
  readonly rows?: Uint32Array;
}

assert(
  core.HANDLES_MAX.value === HANDLES_MAX && core.TOMBSTONES_MAX.value === TOMBSTONES_MAX,
  "wasm/relay-core.ts has other limits",
);
const CALL_BLOCKS_MAX = core.CALL_BLOCKS_MAX.value;

/** Where the blocks of runs lie, and the rows of removed ones. */
const slab = new Slab();
/** Maps that nobody can reach any more give their memory back. */
const collected = new FinalizationRegistry((map: number) => core.destroy(map));

export class HandleMap {
  readonly #map = core.create();
  /** Copies of rows that have MANY. */
  readonly #many = new Map<number, number>();
  /** Keys of the blocks added since they were taken that another handle has claimed. */
  #shared: bigint[] = [];

  constructor() {
    collected.register(this, this.#map);
  }

  /** Handles with copies. */
  get size(): number {
    return core.size(this.#map);
  }

  get byteLength(): number {
    return core.bytes(this.#map) >>> 0;
  }

  /** The key of a block that is held, or was until lately. */
  keyOf(handle: EngineKey): BlockKey | null {
    return core.keyOf(this.#map, handle) === 0 ? null : blockKey(coreViews().longs[KEYS] ?? 0n);
  }

  /** Whether a copy is held; a tombstone is none. */
  has(handle: EngineKey): boolean {
    return core.rowOf(this.#map, handle) !== NO_ROW;
  }

  /** Copies of a block, over all tiers. */
  copies(handle: EngineKey): number {
    const row = core.rowOf(this.#map, handle);
    return row === NO_ROW ? 0 : this.#copiesOf(row);
  }

  /** From now on the index does not have all blocks that are held: their keys are remembered here too. */
  claimHeld(): void {
    core.claimHeld(this.#map);
  }

  eachHeld(visit: (handle: EngineKey) => void): void {
    const rowEnd = core.rowEnd(this.#map);
    for (let row = 0; row < rowEnd; row += 1) {
      if (core.copiesOf(this.#map, row) > 0) visit(engineKey(core.handleAt(this.#map, row)));
    }
  }

  /**
   * Adds one copy of each block from position `start` to `end`, about 50 ns each. Returns the first that
   * was not added, or `end`: the map is full, or a claimed key is not the one that the handle has.
   */
  addAll(blocks: Blocks, origin: KeyOrigin, start = 0, end = blocks.handles.length): number {
    for (let position = start; position < end; ) {
      const callEnd = Math.min(end, position + CALL_BLOCKS_MAX);
      position = this.#addSome(blocks, origin, position, callEnd);
      if (position < callEnd) {
        if (!this.#addToMany(blocks, origin, position)) return position;
        position += 1;
      }
    }
    return end;
  }

  #addSome({ handles, keys, rows }: Blocks, origin: KeyOrigin, start: number, end: number): number {
    const { longs } = coreViews();
    load(longs, HANDLES, handles, start, end);
    load(longs, KEYS, keys, start, end);
    const added = core.add(this.#map, end - start, origin === "claimed");
    const { words } = coreViews();
    const shared = words[SHARED] ?? 0;
    for (let at = 0; at < shared; at += 1) {
      this.#shared.push(keys[start + (words[COUNTS + at] ?? 0)] ?? 0n);
    }
    if (rows !== undefined) unload(words, ROWS, rows, start, added);
    return start + added;
  }

  /** A copy of a block that has about as many as its column counts. */
  #addToMany({ handles, keys, rows }: Blocks, origin: KeyOrigin, position: number): boolean {
    const handle = engineKey(handles[position] ?? 0n);
    const row = core.rowOf(this.#map, handle);
    if (row === NO_ROW || (origin === "claimed" && this.keyOf(handle) !== keys[position])) {
      return false;
    }
    this.#setCopies(row, this.#copiesOf(row) + 1);
    if (rows !== undefined) rows[position] = row;
    return true;
  }

  /** The rows of blocks, where they have one. */
  rowsOf(handles: BigUint64Array): Uint32Array {
    const rows = slab.u32(handles.length);
    for (const [position, handle] of handles.entries()) {
      rows[position] = core.rowOf(this.#map, handle);
    }
    return rows;
  }

  /** Takes one copy of each block away; the last one leaves a tombstone. Returns their rows. */
  removeAll(handles: BigUint64Array): Uint32Array {
    const rows = slab.u32(handles.length);
    for (let position = 0; position < handles.length; ) {
      const end = Math.min(handles.length, position + CALL_BLOCKS_MAX);
      load(coreViews().longs, HANDLES, handles, position, end);
      const removed = core.remove(this.#map, end - position);
      unload(coreViews().words, ROWS, rows, position, removed);
      position += removed;
      if (position === end) continue;
      const row = core.rowOf(this.#map, handles[position] ?? 0n);
      this.#setCopies(row, this.#copiesOf(row) - 1);
      rows[position] = row;
      position += 1;
    }
    return rows;
  }

  /** Whether the parents of a run of stores are known; `root` is that of events without one. */
  findParents({ run }: PlainRun, root: BlockKey): boolean {
    coreViews().longs[ROOT] = root;
    return core.findParents(this.#map, run) !== 0;
  }

  /**
   * Hashes and adds the blocks of a run of stores whose parents were just found. Returns how many were
   * added: fewer than it has, if the map is full. `claimedRun` tells of them.
   */
  claimRun({ run, blocks }: PlainRun, seed: bigint): number {
    coreViews().longs[SEED] = seed;
    for (let added = 0; ; added += 1) {
      added = core.claimRun(this.#map, run, added);
      const { longs, words } = coreViews();
      const shared = words[SHARED] ?? 0;
      for (let at = 0; at < shared; at += 1) {
        this.#shared.push(longs[OUT / 2 + blocks + (words[COUNTS + at] ?? 0)] ?? 0n);
      }
      if (added === blocks) return added;
      const row = core.rowOf(this.#map, longs[OUT / 2 + added] ?? 0n);
      if (row === NO_ROW) return added;
      this.#setCopies(row, this.#copiesOf(row) + 1);
      words[OUT + 6 * blocks + added] = row;
    }
  }

  /** The blocks of a run that were just added. */
  claimedRun({ blocks, blockSizeTokens }: PlainRun): KeyedRun {
    const place = slab.copy(coreViews().words, OUT, OUT + RUN_BLOCK_WORDS * blocks);
    return KeyedRun.inSlab(slab, place, blocks, blockSizeTokens);
  }

  /** Takes one copy of each block of a run of removals away. */
  removeRun({ run, blocks }: PlainRun): {
    readonly handles: BigUint64Array;
    readonly rows: Uint32Array;
  } {
    for (let removed = 0; ; removed += 1) {
      removed = core.removeRun(this.#map, run, removed);
      if (removed === blocks) break;
      const row = coreViews().words[OUT + 2 * blocks + removed] ?? 0;
      this.#setCopies(row, this.#copiesOf(row) - 1);
    }
    const at = slab.copy(coreViews().words, OUT, OUT + 3 * blocks);
    const { buffer } = slab;
    return {
      handles: new BigUint64Array(buffer, at, blocks),
      rows: new Uint32Array(buffer, at + 8 * blocks, blocks),
    };
  }

  /**
   * Hands over the keys of blocks added since the last call that removed handles have claimed, or any
   * handles after claimHeld; mostly none.
   */
  takeShared(): readonly bigint[] {
    if (this.#shared.length === 0) return this.#shared;
    const shared = this.#shared;
    this.#shared = [];
    return shared;
  }

  /**
   * Puts back blocks that an earlier relay had, each with so many copies, in the rows that they name if
   * these were never used; those beyond the limit are left out. Cost: about 50 ns a block in its row.
   */
  restore(blocks: Blocks, copies: Uint32Array): void {
    const { handles, rows } = blocks;
    const isRoom = (rows?.at(-1) ?? 0) < HANDLES_MAX;
    if (rows !== undefined && isRoom && (rows[0] ?? 0) >= core.rowEnd(this.#map)) {
      this.#restoreRows(blocks, rows, copies);
      return;
    }
    for (let at = 0; at < handles.length; at += 1) at = this.addAll(blocks, "placed", at);
    for (let at = 0; at < handles.length; at += 1) {
      const more = (copies[at] ?? 1) - 1;
      const row = more === 0 ? NO_ROW : core.rowOf(this.#map, handles[at] ?? 0n);
      if (row !== NO_ROW) this.#setCopies(row, this.#copiesOf(row) + more);
    }
  }

  /** In rising order, none of them used before. */
  #restoreRows({ handles, keys }: Blocks, rows: Uint32Array, copies: Uint32Array): void {
    for (let start = 0; start < handles.length; start += CALL_BLOCKS_MAX) {
      const end = Math.min(handles.length, start + CALL_BLOCKS_MAX);
      const { longs, words } = coreViews();
      load(longs, HANDLES, handles, start, end);
      load(longs, KEYS, keys, start, end);
      words.set(rows.subarray(start, end), ROWS);
      words.set(copies.subarray(start, end), COUNTS);
      const restored = core.restore(this.#map, end - start);
      for (let at = start; at < start + restored; at += 1) {
        if ((copies[at] ?? 1) >= MANY) this.#many.set(rows[at] ?? 0, copies[at] ?? 1);
      }
      if (restored < end - start) return;
    }
  }

  /** Takes all copies away: which handle stands for which key remains true, as of tombstones. */
  buryAll(): void {
    this.#many.clear();
    core.buryAll(this.#map);
  }

  clear(): void {
    this.#many.clear();
    this.#shared = [];
    core.clear(this.#map);
  }

  #copiesOf(row: number): number {
    const copies = core.copiesOf(this.#map, row);
    return copies === MANY ? (this.#many.get(row) ?? MANY) : copies;
  }

  /** One or more. */
  #setCopies(row: number, copies: number): void {
    core.setCopies(this.#map, row, Math.min(copies, MANY));
    if (copies >= MANY) this.#many.set(row, copies);
    else this.#many.delete(row);
  }
}

function load(
  longs: BigUint64Array,
  to: number,
  from: BigUint64Array,
  start: number,
  end: number,
): void {
  const length = end - start;
  if (length > COPIED_BY_LOOP) longs.set(from.subarray(start, end), to);
  else for (let at = 0; at < length; at += 1) longs[to + at] = from[start + at] ?? 0n;
}

function unload(
  words: Uint32Array,
  from: number,
  into: Uint32Array,
  start: number,
  length: number,
): void {
  if (length > COPIED_BY_LOOP) into.set(words.subarray(from, from + length), start);
  else for (let at = 0; at < length; at += 1) into[start + at] = words[from + at] ?? 0;
}
