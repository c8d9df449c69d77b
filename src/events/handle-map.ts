/**
 * One holder's map from engine handles to our keys.
 *
 * An engine names parents and removals by its own hashes only. A removed block's handle is kept as a
 * tombstone for a while, because engines store children under parents that are already evicted, and
 * because another handle for its key shows that the key is ambiguous (see ambiguous-keys.ts, which finds
 * out by itself where both have copies). The map lies in the memory of our WebAssembly
 * (wasm/handle-map.ts), one for all maps of a thread: 17 bytes a row, 5 to 8 of slots, 32 to 64 for each
 * tombstone; large columns grow by a tenth. What a map had is given back when it is collected.
 */
import { assert } from "../core/assert.ts";
import { instantiateWasm, type OwnMemory } from "../core/file-wasm.ts";
import { type BlockKey, blockKey, type EngineKey, engineKey } from "../core/ids.ts";
import { Slab } from "../core/slab.ts";

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

interface Value {
  readonly value: number;
}

/** Exports of wasm/handle-map.ts; a map is the place of its words. */
interface HandleMapWasm {
  readonly memory: OwnMemory;
  readonly HANDLES_MAX: Value;
  readonly TOMBSTONES_MAX: Value;
  readonly CALL_BLOCKS_MAX: Value;
  readonly HANDLES_AT: Value;
  readonly KEYS_AT: Value;
  readonly ROWS_AT: Value;
  readonly COUNTS_AT: Value;
  /** Positions at COUNTS_AT after `add`. */
  readonly shared: Value;
  create(): number;
  destroy(map: number): void;
  clear(map: number): void;
  bytes(map: number): number;
  size(map: number): number;
  rowEnd(map: number): number;
  add(map: number, start: number, end: number, isClaimed: boolean): number;
  remove(map: number, start: number, end: number): number;
  restore(map: number, count: number): number;
  buryAll(map: number): void;
  claimHeld(map: number): void;
  keyOf(map: number, handle: bigint): number;
  rowOf(map: number, handle: bigint): number;
  copiesOf(map: number, row: number): number;
  setCopies(map: number, row: number, copies: number): void;
  handleAt(map: number, row: number): bigint;
}

const wasm = instantiateWasm<HandleMapWasm>("handle-map");
assert(
  wasm.HANDLES_MAX.value === HANDLES_MAX && wasm.TOMBSTONES_MAX.value === TOMBSTONES_MAX,
  "wasm/handle-map.ts has other limits",
);
const CALL_BLOCKS_MAX = wasm.CALL_BLOCKS_MAX.value;

/** Blocks on their way in and out. */
interface Views {
  readonly handles: BigUint64Array;
  readonly keys: BigUint64Array;
  readonly rows: Uint32Array;
  readonly counts: Uint32Array;
}

let lastViews = viewsOf(wasm.memory.buffer);
/** Where the rows of removed blocks lie. */
const slab = new Slab();
/** Maps that nobody can reach any more give their memory back. */
const collected = new FinalizationRegistry((map: number) => wasm.destroy(map));

export class HandleMap {
  readonly #map = wasm.create();
  /** Copies of rows that have MANY. */
  readonly #many = new Map<number, number>();
  /** Keys of the blocks added since they were taken that another handle has claimed. */
  #shared: bigint[] = [];

  constructor() {
    collected.register(this, this.#map);
  }

  /** Handles with copies. */
  get size(): number {
    return wasm.size(this.#map);
  }

  get byteLength(): number {
    return wasm.bytes(this.#map) >>> 0;
  }

  /** The key of a block that is held, or was until lately. */
  keyOf(handle: EngineKey): BlockKey | null {
    return wasm.keyOf(this.#map, handle) === 0 ? null : blockKey(views().keys[0] ?? 0n);
  }

  /** Whether a copy is held; a tombstone is none. */
  has(handle: EngineKey): boolean {
    return wasm.rowOf(this.#map, handle) !== NO_ROW;
  }

  /** Copies of a block, over all tiers. */
  copies(handle: EngineKey): number {
    const row = wasm.rowOf(this.#map, handle);
    return row === NO_ROW ? 0 : this.#copiesOf(row);
  }

  /** From now on the index does not have all blocks that are held: their keys are remembered here too. */
  claimHeld(): void {
    wasm.claimHeld(this.#map);
  }

  eachHeld(visit: (handle: EngineKey) => void): void {
    const rowEnd = wasm.rowEnd(this.#map);
    for (let row = 0; row < rowEnd; row += 1) {
      if (wasm.copiesOf(this.#map, row) > 0) visit(engineKey(wasm.handleAt(this.#map, row)));
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
    const into = views();
    load(into.handles, handles, start, end);
    load(into.keys, keys, start, end);
    const added = wasm.add(this.#map, 0, end - start, origin === "claimed");
    const { counts, rows: rowsAdded } = views();
    for (let at = 0; at < wasm.shared.value; at += 1) {
      this.#shared.push(keys[start + (counts[at] ?? 0)] ?? 0n);
    }
    if (rows !== undefined) unload(rowsAdded, rows, start, added);
    return start + added;
  }

  /** A copy of a block that has about as many as its column counts. */
  #addToMany({ handles, keys, rows }: Blocks, origin: KeyOrigin, position: number): boolean {
    const handle = engineKey(handles[position] ?? 0n);
    const row = wasm.rowOf(this.#map, handle);
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
      rows[position] = wasm.rowOf(this.#map, handle);
    }
    return rows;
  }

  /** Takes one copy of each block away; the last one leaves a tombstone. Returns their rows. */
  removeAll(handles: BigUint64Array): Uint32Array {
    const rows = slab.u32(handles.length);
    for (let position = 0; position < handles.length; ) {
      const end = Math.min(handles.length, position + CALL_BLOCKS_MAX);
      load(views().handles, handles, position, end);
      const removed = wasm.remove(this.#map, 0, end - position);
      unload(views().rows, rows, position, removed);
      position += removed;
      if (position === end) continue;
      const row = wasm.rowOf(this.#map, handles[position] ?? 0n);
      this.#setCopies(row, this.#copiesOf(row) - 1);
      rows[position] = row;
      position += 1;
    }
    return rows;
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
    if (rows !== undefined && (rows[0] ?? 0) >= wasm.rowEnd(this.#map)) {
      this.#restoreRows(blocks, rows, copies);
      return;
    }
    for (let at = 0; at < handles.length; at += 1) at = this.addAll(blocks, "placed", at);
    for (let at = 0; at < handles.length; at += 1) {
      const more = (copies[at] ?? 1) - 1;
      const row = more === 0 ? NO_ROW : wasm.rowOf(this.#map, handles[at] ?? 0n);
      if (row !== NO_ROW) this.#setCopies(row, this.#copiesOf(row) + more);
    }
  }

  /** In rising order, none of them used before. */
  #restoreRows({ handles, keys }: Blocks, rows: Uint32Array, copies: Uint32Array): void {
    for (let start = 0; start < handles.length; start += CALL_BLOCKS_MAX) {
      const end = Math.min(handles.length, start + CALL_BLOCKS_MAX);
      const into = views();
      load(into.handles, handles, start, end);
      load(into.keys, keys, start, end);
      into.rows.set(rows.subarray(start, end));
      into.counts.set(copies.subarray(start, end));
      const restored = wasm.restore(this.#map, end - start);
      for (let at = start; at < start + restored; at += 1) {
        if ((copies[at] ?? 1) >= MANY) this.#many.set(rows[at] ?? 0, copies[at] ?? 1);
      }
      if (restored < end - start) return;
    }
  }

  /** Takes all copies away: which handle stands for which key remains true, as of tombstones. */
  buryAll(): void {
    this.#many.clear();
    wasm.buryAll(this.#map);
  }

  clear(): void {
    this.#many.clear();
    this.#shared = [];
    wasm.clear(this.#map);
  }

  #copiesOf(row: number): number {
    const copies = wasm.copiesOf(this.#map, row);
    return copies === MANY ? (this.#many.get(row) ?? MANY) : copies;
  }

  /** One or more. */
  #setCopies(row: number, copies: number): void {
    wasm.setCopies(this.#map, row, Math.min(copies, MANY));
    if (copies >= MANY) this.#many.set(row, copies);
    else this.#many.delete(row);
  }
}

/** Memory that has grown is another buffer, and views of the former one are empty. */
function views(): Views {
  if (lastViews.rows.length === 0) lastViews = viewsOf(wasm.memory.buffer);
  return lastViews;
}

function viewsOf(buffer: ArrayBuffer): Views {
  return {
    handles: new BigUint64Array(buffer, wasm.HANDLES_AT.value, wasm.CALL_BLOCKS_MAX.value),
    keys: new BigUint64Array(buffer, wasm.KEYS_AT.value, wasm.CALL_BLOCKS_MAX.value),
    rows: new Uint32Array(buffer, wasm.ROWS_AT.value, wasm.CALL_BLOCKS_MAX.value),
    counts: new Uint32Array(buffer, wasm.COUNTS_AT.value, wasm.CALL_BLOCKS_MAX.value),
  };
}

function load(into: BigUint64Array, from: BigUint64Array, start: number, end: number): void {
  const length = end - start;
  if (length > COPIED_BY_LOOP) into.set(from.subarray(start, end));
  else for (let at = 0; at < length; at += 1) into[at] = from[start + at] ?? 0n;
}

function unload(from: Uint32Array, into: Uint32Array, start: number, length: number): void {
  if (length > COPIED_BY_LOOP) into.set(from.subarray(0, length), start);
  else for (let at = 0; at < length; at += 1) into[start + at] = from[at] ?? 0;
}
