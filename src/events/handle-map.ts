/**
 * One holder's map from engine handles to our keys.
 *
 * An engine names parents and removals by its own hashes only. A removed block's handle is kept as a
 * tombstone for a while, because engines store children under parents that are already evicted, and
 * because another handle for its key shows that the key is ambiguous (see ambiguous-keys.ts, which finds
 * out by itself where both have copies). Handles and keys lie in columns of words by row, and are found
 * through slots of four bytes; a row is free once its last copy is gone. Memory: 17 bytes a row, 5 to 8 of
 * slots, 32 to 64 for each tombstone; large columns grow by a tenth.
 */
import { type BlockKey, blockKey, type EngineKey, engineKey } from "../core/ids.ts";
import { Slab } from "../core/slab.ts";
import { HandleSlots, NO_ROW } from "../indexer/handle-slots.ts";
import { grown } from "../indexer/u64-table.ts";
import { U64Cell } from "../indexer/u64-words.ts";
import { ClaimedKeys } from "./claimed-keys.ts";
import { NO_PLACE, Tombstones } from "./tombstones.ts";

/** Blocks of one holder; an engine with more GPU, CPU and NVMe blocks than this is refused. */
export const HANDLES_MAX = 8_388_608;
/** Handles remembered after their block is gone, oldest forgotten first. */
export const TOMBSTONES_MAX = 65_536;

/** Rows before the first growth. */
const CAPACITY_MIN = 64;
/** Columns up to this many rows double, longer ones grow by GROWTH. */
const DOUBLED_ROWS = 65_536;
const GROWTH = 1.1;

/** What the column of copies says beside a count from 1 on. */
const FREE = 0;
/** The count is aside: this many or more. */
const MANY = 255;

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

/** Where the rows of removed blocks lie. */
const slab = new Slab();

export class HandleMap {
  readonly #cell = new U64Cell();
  /** Two words for each row, low first; a free row has its successor in the list of free rows, + 1. */
  #handles = new Uint32Array(2 * CAPACITY_MIN);
  #keys = new Uint32Array(2 * CAPACITY_MIN);
  #copies = new Uint8Array(CAPACITY_MIN);
  /** Copies of rows that have MANY. */
  readonly #many = new Map<number, number>();
  #slots = new HandleSlots(this.#handles);
  /** Of rows with copies; null: the index has their keys. */
  #claimed: ClaimedKeys | null = null;
  /** Keys of the blocks added since they were taken that another handle has claimed. */
  #shared: bigint[] = [];
  readonly #tombstones = new Tombstones(TOMBSTONES_MAX);
  /** Rows given so far; those behind were never used. */
  #rowEnd = 0;
  #freeFirst = NO_ROW;
  /** Handles with copies. */
  #size = 0;
  /** Where the last handle was found or put: its neighbour is looked for beside it. */
  #near = NO_ROW;

  get size(): number {
    return this.#size;
  }

  get byteLength(): number {
    const columns = this.#handles.byteLength + this.#keys.byteLength + this.#copies.byteLength;
    const slots = this.#slots.byteLength + (this.#claimed?.byteLength ?? 0);
    return columns + slots + this.#tombstones.byteLength;
  }

  /** The key of a block that is held, or was until lately. */
  keyOf(handle: EngineKey): BlockKey | null {
    const cell = this.#cell;
    cell.set(handle);
    const { low, high } = cell;
    const row = this.#find(low, high);
    if (row !== NO_ROW) return blockKey(wordsAt(cell, this.#keys, row));
    const place = this.#tombstones.find(low, high);
    if (place === NO_PLACE) return null;
    return blockKey(cell.join(this.#tombstones.keyLow(place), this.#tombstones.keyHigh(place)));
  }

  /** Whether a copy is held; a tombstone is none. */
  has(handle: EngineKey): boolean {
    return this.#rowOf(handle) !== NO_ROW;
  }

  /** Copies of a block, over all tiers. */
  copies(handle: EngineKey): number {
    const row = this.#rowOf(handle);
    return row === NO_ROW ? 0 : this.#copiesOf(row);
  }

  /** From now on the index does not have all blocks that are held: their keys are remembered here too. */
  claimHeld(): void {
    this.#claimed ??= new ClaimedKeys(this.#keys);
    for (let row = 0; row < this.#rowEnd; row += 1) {
      if (this.#copies[row] !== FREE) this.#claimed.add(row, this.#rowEnd);
    }
  }

  eachHeld(visit: (handle: EngineKey) => void): void {
    for (let row = 0; row < this.#rowEnd; row += 1) {
      if (this.#copies[row] !== FREE) visit(engineKey(wordsAt(this.#cell, this.#handles, row)));
    }
  }

  /**
   * Adds one copy of each block from position `start` to `end`, about 50 ns each. Returns the first that
   * was not added, or `end`: the map is full, or a claimed key is not the one that the handle has.
   */
  addAll(
    { handles, keys, rows }: Blocks,
    origin: KeyOrigin,
    start = 0,
    end = handles.length,
  ): number {
    const cell = this.#cell;
    const isClaimed = origin === "claimed";
    for (let position = start; position < end; position += 1) {
      cell.set(handles[position] ?? 0n);
      const low = cell.low;
      const high = cell.high;
      cell.set(keys[position] ?? 0n);
      let row = this.#find(low, high);
      if (row === NO_ROW) {
        if (!this.#mayEnter(low, high, isClaimed)) return position;
        row = this.#insert(low, high);
        this.#setKey(row, cell.low, cell.high);
        this.#claimed?.add(row, this.#rowEnd);
      } else if (isClaimed && !this.#hasKey(row, cell.low, cell.high)) return position;
      else this.#setCopies(row, this.#copiesOf(row) + 1);
      if (rows !== undefined) rows[position] = row;
    }
    return end;
  }

  /** Whether there is room for a handle without copies, and its tombstone has the key in the cell. */
  #mayEnter(low: number, high: number, isClaimed: boolean): boolean {
    const tombstones = this.#tombstones;
    const { low: keyLow, high: keyHigh } = this.#cell;
    const place = tombstones.find(low, high);
    if (place === NO_PLACE) {
      if (this.#size >= HANDLES_MAX) return false;
      if (isClaimed && this.#isClaimed(keyLow, keyHigh)) {
        this.#shared.push(this.#cell.join(keyLow, keyHigh));
      }
      return true;
    }
    const isSame = tombstones.keyLow(place) === keyLow && tombstones.keyHigh(place) === keyHigh;
    if ((isClaimed && !isSame) || this.#size >= HANDLES_MAX) return false;
    tombstones.takeBack(place);
    return true;
  }

  #isClaimed(keyLow: number, keyHigh: number): boolean {
    return this.#tombstones.hasKey(keyLow, keyHigh) || this.#claimed?.has(keyLow, keyHigh) === true;
  }

  /** Loads what adding blocks with these handles will need: done for many at once, it saves waiting. */
  touch(handles: BigUint64Array): void {
    this.#slots.touch(handles);
    this.#tombstones.touch(handles);
  }

  /** The same for their keys. */
  touchClaims(keys: BigUint64Array): void {
    this.#tombstones.touchKeys(keys);
  }

  /** The rows of blocks, where they have one. */
  rowsOf(handles: BigUint64Array): Uint32Array {
    const rows = slab.u32(handles.length);
    for (let position = 0; position < handles.length; position += 1) {
      this.#cell.set(handles[position] ?? 0n);
      rows[position] = this.#find(this.#cell.low, this.#cell.high);
    }
    return rows;
  }

  /** Takes one copy of each block away; the last one leaves a tombstone. Returns their rows. */
  removeAll(handles: BigUint64Array): Uint32Array {
    const cell = this.#cell;
    const rows = slab.u32(handles.length);
    this.#slots.touch(handles);
    for (let position = 0; position < handles.length; position += 1) {
      cell.set(handles[position] ?? 0n);
      const row = this.#find(cell.low, cell.high);
      rows[position] = row;
      if (row === NO_ROW) continue;
      const copies = this.#copiesOf(row);
      if (copies > 1) this.#setCopies(row, copies - 1);
      else this.#bury(row);
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
   * these were never used; those beyond the limit are left out. Cost: about 100 ns a block in its row.
   */
  restore(blocks: Blocks, copies: Uint32Array): void {
    const { handles, rows } = blocks;
    if (rows !== undefined && (rows[0] ?? 0) >= this.#rowEnd) {
      this.#restoreRows(blocks, rows, copies);
      return;
    }
    for (let at = 0; at < handles.length; at += 1) at = this.addAll(blocks, "placed", at);
    for (let at = 0; at < handles.length; at += 1) {
      const more = (copies[at] ?? 1) - 1;
      if (more === 0) continue;
      const row = this.#rowOf(engineKey(handles[at] ?? 0n));
      if (row === NO_ROW) continue;
      this.#setCopies(row, this.#copiesOf(row) + more);
    }
  }

  /** In rising order, none of them used before. */
  #restoreRows({ handles, keys }: Blocks, rows: Uint32Array, copies: Uint32Array): void {
    const cell = this.#cell;
    for (let at = 0; at < handles.length && this.#size < HANDLES_MAX; at += 1) {
      const row = rows[at] ?? 0;
      for (; this.#rowEnd < row; this.#rowEnd += 1) this.#link(this.#unusedRow());
      this.#unusedRow();
      this.#rowEnd = row + 1;
      cell.set(handles[at] ?? 0n);
      this.#handles[2 * row] = cell.low;
      this.#handles[2 * row + 1] = cell.high;
      cell.set(keys[at] ?? 0n);
      this.#setKey(row, cell.low, cell.high);
      this.#setCopies(row, copies[at] ?? 1);
      this.#slots.insert(row);
      this.#size += 1;
      this.#claimed?.add(row, this.#rowEnd);
    }
  }

  /** Takes all copies away: which handle stands for which key remains true, as of tombstones. */
  buryAll(): void {
    for (let row = 0; row < this.#rowEnd; row += 1) {
      if (this.#copies[row] === FREE) continue;
      this.#many.delete(row);
      this.#bury(row);
    }
  }

  clear(): void {
    this.#handles = new Uint32Array(2 * CAPACITY_MIN);
    this.#keys = new Uint32Array(2 * CAPACITY_MIN);
    this.#copies = new Uint8Array(CAPACITY_MIN);
    this.#many.clear();
    this.#slots = new HandleSlots(this.#handles);
    this.#claimed = null;
    this.#shared = [];
    this.#tombstones.clear();
    this.#rowEnd = 0;
    this.#freeFirst = NO_ROW;
    this.#size = 0;
    this.#near = NO_ROW;
  }

  #rowOf(handle: EngineKey): number {
    this.#cell.set(handle);
    return this.#find(this.#cell.low, this.#cell.high);
  }

  #find(low: number, high: number): number {
    const near = this.#near;
    let row = near + 1;
    if (!this.#isAt(row, low, high)) {
      row = near - 1;
      if (!this.#isAt(row, low, high)) row = this.#slots.find(low, high);
    }
    if (row !== NO_ROW) this.#near = row;
    return row;
  }

  #isAt(row: number, low: number, high: number): boolean {
    return (
      row >= 0 &&
      row < this.#rowEnd &&
      this.#handles[2 * row] === low &&
      this.#handles[2 * row + 1] === high &&
      this.#copies[row] !== FREE
    );
  }

  /** Makes the row of a handle that was just looked for in vain, with one copy. */
  #insert(low: number, high: number): number {
    let row = this.#freeFirst;
    if (row !== NO_ROW) this.#freeFirst = (this.#handles[2 * row] ?? 0) - 1;
    else {
      row = this.#unusedRow();
      this.#rowEnd += 1;
    }
    this.#handles[2 * row] = low;
    this.#handles[2 * row + 1] = high;
    this.#copies[row] = 1;
    this.#slots.insertMissed(row);
    this.#size += 1;
    this.#near = row;
    return row;
  }

  /** There is room for it now. */
  #unusedRow(): number {
    if (this.#rowEnd === this.#copies.length) this.#grow();
    return this.#rowEnd;
  }

  #grow(): void {
    const rows = this.#copies.length;
    const capacity = rows < DOUBLED_ROWS ? 2 * rows : Math.ceil(rows * GROWTH);
    this.#handles = grown(this.#handles, new Uint32Array(2 * capacity));
    this.#keys = grown(this.#keys, new Uint32Array(2 * capacity));
    this.#copies = grown(this.#copies, new Uint8Array(capacity));
    this.#slots.moveTo(this.#handles, capacity);
    this.#claimed?.moveTo(this.#keys);
  }

  #bury(row: number): void {
    const at = 2 * row;
    const [handles, keys] = [this.#handles, this.#keys];
    this.#tombstones.push(handles[at] ?? 0, handles[at + 1] ?? 0, keys[at] ?? 0, keys[at + 1] ?? 0);
    this.#slots.delete(row);
    this.#claimed?.delete(row);
    this.#copies[row] = FREE;
    this.#size -= 1;
    this.#link(row);
  }

  #link(row: number): void {
    this.#handles[2 * row] = this.#freeFirst + 1;
    this.#freeFirst = row;
  }

  #copiesOf(row: number): number {
    const copies = this.#copies[row] ?? 0;
    return copies === MANY ? (this.#many.get(row) ?? MANY) : copies;
  }

  #setCopies(row: number, copies: number): void {
    if (this.#copies[row] === MANY) this.#many.delete(row);
    this.#copies[row] = Math.min(copies, MANY);
    if (copies >= MANY) this.#many.set(row, copies);
  }

  #hasKey(row: number, low: number, high: number): boolean {
    return this.#keys[2 * row] === low && this.#keys[2 * row + 1] === high;
  }

  #setKey(row: number, low: number, high: number): void {
    this.#keys[2 * row] = low;
    this.#keys[2 * row + 1] = high;
  }
}

function wordsAt(cell: U64Cell, column: Uint32Array, row: number): bigint {
  return cell.join(column[2 * row] ?? 0, column[2 * row + 1] ?? 0);
}
