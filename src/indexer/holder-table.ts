/**
 * One holder's blocks by engine handle: key, copies per tier, and which pages of rows changed.
 *
 * A row is free when it has no copies. Where a relay in the same process names the rows, which are those
 * of its handle map, they are taken from it, and no handle is looked up twice. A table that is asked
 * without them, or finds that they are not the same, keeps rows of its own: freed ones are used again, the
 * latest first, so that a chain that replaces another lies where that lay: one run for the index, few pages
 * for the store. Memory: 17 bytes per row, and slots for rows of its own, all doubled while small and half
 * as long again when large.
 */
import { type BlockKey, blockKey } from "../core/ids.ts";
import { TIERS } from "../tiers/tier.ts";
import type { BlockSpan } from "./block-span.ts";
import { CopyCounts } from "./copy-counts.ts";
import { HandleSlots, NO_ROW, ROWS_MAX } from "./handle-slots.ts";
import {
  MANY_BYTES,
  PAGE_BYTES,
  PAGE_ROWS,
  type PageColumns,
  type PageRows,
} from "./store-page.ts";
import { grown } from "./u64-table.ts";
import { U64Cell, wordsOf } from "./u64-words.ts";

/** Rows before the first growth. */
const CAPACITY_MIN = 64;
/** Columns up to this many rows double, longer ones grow by GROWTH. */
const DOUBLED_ROWS = 65_536;
const GROWTH = 1.5;

export interface BlockRecord {
  readonly key: BlockKey;
  /** Copies in each tier, in the order of TIERS. */
  readonly copies: readonly number[];
}

/** Some rows with copies, in their order; valid until the next are asked for. */
export interface HeldRows {
  readonly rows: Uint32Array;
  readonly handles: BigUint64Array;
  readonly keys: BigUint64Array;
  /** In all tiers together. */
  readonly copies: Uint32Array;
}

export class HolderTable {
  readonly #cell = new U64Cell();
  /** Two words for each row; a free row has its successor in the list of free rows, + 1. */
  #handles = new Uint32Array(2 * CAPACITY_MIN);
  #keys = new Uint32Array(2 * CAPACITY_MIN);
  /** The same, a value each. */
  #handleValues = valuesOf(this.#handles);
  #keyValues = valuesOf(this.#keys);
  #copies = new CopyCounts(CAPACITY_MIN);
  /** Null: rows are named by a relay. */
  #slots: HandleSlots | null = null;
  #capacity = CAPACITY_MIN;
  /** Rows given so far; those behind were never used. */
  #rowEnd = 0;
  #freeFirst = NO_ROW;
  #blocks = 0;
  /** Where the last handle was found or put: its neighbour is looked for beside it. */
  #near = NO_ROW;
  #isDirtyPage = new Uint8Array(1);
  /** Dirty pages in the order in which they became so. */
  #dirtyPages: number[] = [];

  /** Rows with copies. */
  get blocks(): number {
    return this.#blocks;
  }

  /** Pages that hold all rows given so far. */
  get pages(): number {
    return Math.ceil(this.#rowEnd / PAGE_ROWS);
  }

  get dirtyPages(): number {
    return this.#dirtyPages.length;
  }

  /** Bytes of the dirty pages, at most. */
  get dirtyBytesMax(): number {
    return this.#dirtyPages.length * PAGE_BYTES + this.#copies.manySize * MANY_BYTES;
  }

  get byteLength(): number {
    const columns = this.#handles.byteLength + this.#keys.byteLength + this.#copies.byteLength;
    return columns + (this.#slots?.byteLength ?? 0);
  }

  /** Handles, keys and copies as they lie; `pages` are runs of PAGE_ROWS rows in them. */
  get columns(): PageColumns {
    const columns = { handles: this.#handles, keys: this.#keys, copies: this.#copies };
    return { ...columns, rowEnd: this.#rowEnd };
  }

  /** Puts the rows of a page where they were; nothing may be there. Pages come in rising order. */
  loadPage(page: number, { rows, handles, keys, copies, many }: PageRows): void {
    const first = page * PAGE_ROWS;
    if (first + rows > this.#capacity) this.reserve(grownCapacity(first + rows));
    this.#handles.set(wordsOf(handles), 2 * first);
    this.#keys.set(wordsOf(keys), 2 * first);
    this.#copies.load(first, copies);
    for (const { row, order, copies: count } of many) this.#copies.set(first + row, order, count);
    this.#rowEnd = first + rows;
    this.#slots?.insertAll(this.#copies.bytes, first, this.#rowEnd);
    for (let row = first; row < this.#rowEnd; row += 1) if (this.hasCopies(row)) this.#blocks += 1;
  }

  /** Keeps rows of its own from now on, until it is cleared. Cost: about 40 ns a row, once. */
  own(): void {
    if (this.#slots !== null) return;
    this.#slots = new HandleSlots(this.#handles);
    this.#slots.insertAll(this.#copies.bytes, 0, this.#rowEnd);
    // The lowest is used first.
    for (let row = this.#rowEnd - 1; row >= 0; row -= 1) if (!this.hasCopies(row)) this.#link(row);
  }

  /** The row of a handle, or NO_ROW. `named`: by the relay, NO_ROW where it is not. */
  find(low: number, high: number, named: number): number {
    if (this.#slots === null) {
      if (this.#isAt(named, low, high)) return named;
      if (named !== NO_ROW && !this.hasRow(named)) return NO_ROW;
      this.own();
    }
    return this.#findOwn(low, high);
  }

  #findOwn(low: number, high: number): number {
    const near = this.#near;
    if (this.#isAt(near + 1, low, high)) {
      this.#near = near + 1;
      return near + 1;
    }
    if (this.#isAt(near - 1, low, high)) {
      this.#near = near - 1;
      return near - 1;
    }
    const row = this.#slots?.find(low, high) ?? NO_ROW;
    if (row !== NO_ROW) this.#near = row;
    return row;
  }

  /** Loads what looking these handles up will need; see HandleSlots. */
  touch(handles: BigUint64Array, start: number, count: number): void {
    this.#slots?.touch(handles, start, count);
  }

  /**
   * Makes the rows of blocks with their first copy, from the first block on while a relay names them rows
   * that are free. Returns how many.
   */
  beginNamed(span: BlockSpan, tierOrder: number): number {
    const { handles, handlesAt, keys, keysAt, rows, rowsAt, length } = span;
    if (this.#slots !== null || rows === undefined) return 0;
    let begun = 0;
    for (; begun < length; begun += 1) {
      const row = rows[rowsAt + begun] ?? ROWS_MAX;
      if (this.hasRow(row) || !this.#give(row)) break;
      this.#handleValues[row] = handles[handlesAt + begun] ?? 0n;
      this.#keyValues[row] = keys[keysAt + begun] ?? 0n;
      this.#copies.set(row, tierOrder, 1);
      this.#touch(row);
    }
    this.#blocks += begun;
    return begun;
  }

  /** Makes the row of a handle that was just looked for in vain; NO_ROW when the table has ROWS_MAX. */
  insert(low: number, high: number, named: number): number {
    const row = this.#slots === null ? named : this.#unusedRow();
    if (!this.#give(row)) return NO_ROW;
    this.#handles[2 * row] = low;
    this.#handles[2 * row + 1] = high;
    this.#slots?.insertMissed(row);
    this.#near = row;
    this.#blocks += 1;
    return row;
  }

  /** False: there is no such row. */
  #give(row: number): boolean {
    if (row < this.#rowEnd) return true;
    if (row >= ROWS_MAX) return false;
    if (row >= this.#capacity) this.reserve(grownCapacity(row));
    // The store has every page up to the last one, also those in which nothing was named.
    for (let passed = this.#rowEnd; passed < row; passed += PAGE_ROWS) this.#touch(passed);
    this.#rowEnd = row + 1;
    return true;
  }

  /** The row freed last, or the next one that was never used. */
  #unusedRow(): number {
    const row = this.#freeFirst;
    if (row === NO_ROW) return this.#rowEnd;
    this.#freeFirst = (this.#handles[2 * row] ?? 0) - 1;
    return row;
  }

  /** Makes room for so many rows in all. */
  reserve(rows: number): void {
    if (rows <= this.#capacity) return;
    this.#capacity = Math.min(rows, ROWS_MAX);
    this.#handles = grown(this.#handles, new Uint32Array(2 * this.#capacity));
    this.#keys = grown(this.#keys, new Uint32Array(2 * this.#capacity));
    this.#handleValues = valuesOf(this.#handles);
    this.#keyValues = valuesOf(this.#keys);
    this.#copies.grow(this.#capacity);
    const pages = Math.ceil(this.#capacity / PAGE_ROWS);
    this.#isDirtyPage = grown(this.#isDirtyPage, new Uint8Array(pages));
    this.#slots?.rebuild(this.#handles, this.#copies.bytes, this.#rowEnd);
  }

  copies(row: number, tierOrder: number): number {
    return this.#copies.get(row, tierOrder);
  }

  hasCopies(row: number): boolean {
    return this.#copies.bytes[row] !== 0;
  }

  /** Whether a row, of those given so far or not, has copies. */
  hasRow(row: number): boolean {
    return row < this.#rowEnd && this.hasCopies(row);
  }

  /** Order of the fastest tier that a row has copies in. */
  fastestTier(row: number): number {
    return TIERS.findIndex((_, order) => this.copies(row, order) > 0);
  }

  /** Whether a row has copies in this tier and in no other. */
  isOnlyIn(row: number, tierOrder: number): boolean {
    return TIERS.every((_, order) => this.copies(row, order) > 0 === (order === tierOrder));
  }

  /** Takes all copies of a row away. */
  drop(row: number): void {
    for (const order of TIERS.keys()) {
      if (this.copies(row, order) > 0) this.setCopies(row, order, 0);
    }
  }

  /** Sets the copies in one tier; a row that is left without any is free. */
  setCopies(row: number, tierOrder: number, copies: number): void {
    this.#copies.set(row, tierOrder, copies);
    this.#touch(row);
    if (copies === 0 && !this.hasCopies(row)) this.#free(row);
  }

  /** Sets the key of a row that was just made, and its first copy. */
  begin(row: number, tierOrder: number, keyLow: number, keyHigh: number): void {
    this.#keys[2 * row] = keyLow;
    this.#keys[2 * row + 1] = keyHigh;
    this.#copies.set(row, tierOrder, 1);
    this.#touch(row);
  }

  keyLow(row: number): number {
    return this.#keys[2 * row] ?? 0;
  }

  keyHigh(row: number): number {
    return this.#keys[2 * row + 1] ?? 0;
  }

  record(row: number): BlockRecord {
    const key = blockKey(this.#cell.join(this.keyLow(row), this.keyHigh(row)));
    return { key, copies: this.#copies.of(row) };
  }

  handle(row: number): bigint {
    return this.#cell.join(this.#handles[2 * row] ?? 0, this.#handles[2 * row + 1] ?? 0);
  }

  /** Rows with copies, as of the moment they are read. */
  *rows(): Generator<number> {
    for (let row = 0; row < this.#rowEnd; row += 1) if (this.hasCopies(row)) yield row;
  }

  /** The same, a page at a time and without an object for each. */
  *heldRows(): Generator<HeldRows> {
    const handles = new BigUint64Array(PAGE_ROWS);
    const keys = new BigUint64Array(PAGE_ROWS);
    const copies = new Uint32Array(PAGE_ROWS);
    const numbers = new Uint32Array(PAGE_ROWS);
    const [handleWords, keyWords] = [wordsOf(handles), wordsOf(keys)];
    for (let first = 0; first < this.#rowEnd; first += PAGE_ROWS) {
      const end = Math.min(first + PAGE_ROWS, this.#rowEnd);
      let rows = 0;
      for (let row = first; row < end; row += 1) {
        if (!this.hasCopies(row)) continue;
        handleWords[2 * rows] = this.#handles[2 * row] ?? 0;
        handleWords[2 * rows + 1] = this.#handles[2 * row + 1] ?? 0;
        keyWords[2 * rows] = this.keyLow(row);
        keyWords[2 * rows + 1] = this.keyHigh(row);
        copies[rows] = this.#copies.total(row);
        numbers[rows] = row;
        rows += 1;
      }
      if (rows === 0) continue;
      yield {
        rows: numbers.subarray(0, rows),
        handles: handles.subarray(0, rows),
        keys: keys.subarray(0, rows),
        copies: copies.subarray(0, rows),
      };
    }
  }

  /** Forgets all rows and gives their memory back. The store's pages are to be dropped by their number. */
  clear(): void {
    this.#handles = new Uint32Array(2 * CAPACITY_MIN);
    this.#keys = new Uint32Array(2 * CAPACITY_MIN);
    this.#handleValues = valuesOf(this.#handles);
    this.#keyValues = valuesOf(this.#keys);
    this.#copies = new CopyCounts(CAPACITY_MIN);
    this.#slots = null;
    this.#capacity = CAPACITY_MIN;
    this.#rowEnd = 0;
    this.#freeFirst = NO_ROW;
    this.#blocks = 0;
    this.#near = NO_ROW;
    this.#isDirtyPage = new Uint8Array(1);
    this.#dirtyPages = [];
  }

  /** Hands over the numbers of the pages that changed since the last call. */
  takeDirtyPages(): number[] {
    const pages = this.#dirtyPages;
    this.#dirtyPages = [];
    for (const page of pages) this.#isDirtyPage[page] = 0;
    return pages;
  }

  /** Marks pages as changed that are to be written again; those that are gone are left out. */
  markDirty(pages: readonly number[]): void {
    for (const page of pages) if (page < this.pages) this.#touch(page * PAGE_ROWS);
  }

  #isAt(row: number, low: number, high: number): boolean {
    return (
      row >= 0 &&
      row < this.#rowEnd &&
      this.#copies.bytes[row] !== 0 &&
      this.#handles[2 * row] === low &&
      this.#handles[2 * row + 1] === high
    );
  }

  #free(row: number): void {
    this.#blocks -= 1;
    if (this.#slots === null) return;
    this.#slots.delete(row);
    this.#link(row);
  }

  #link(row: number): void {
    this.#handles[2 * row] = this.#freeFirst + 1;
    this.#freeFirst = row;
  }

  #touch(row: number): void {
    const page = (row / PAGE_ROWS) | 0;
    if (this.#isDirtyPage[page] === 1) return;
    this.#isDirtyPage[page] = 1;
    this.#dirtyPages.push(page);
  }
}

function valuesOf(words: Uint32Array): BigUint64Array {
  return new BigUint64Array(words.buffer);
}

function grownCapacity(rows: number): number {
  return rows < DOUBLED_ROWS ? 2 * rows : Math.ceil(rows * GROWTH);
}
