/**
 * One holder's blocks by engine handle: key, copies per tier, and which rows changed.
 *
 * A row is a handle's id; a row without copies stays until its deletion was handed over, so that a
 * changed row needs no other mark than a bit. Memory: 17 bytes per row beside the table's own.
 */
import { type BlockKey, blockKey } from "../core/ids.ts";
import { TIERS } from "../tiers/tier.ts";
import { grown, NO_ID, U64Table } from "./u64-table.ts";
import { U64Cell } from "./u64-words.ts";

const TIER_COUNT = TIERS.length;

export interface BlockRecord {
  readonly key: BlockKey;
  /** Copies in each tier, in the order of TIERS. */
  readonly copies: readonly number[];
}

export class HolderTable {
  readonly #cell = new U64Cell();
  readonly #table = new U64Table();
  /** Two words for each row. */
  #keys = new Uint32Array(2 * this.#table.capacity);
  /** A count for each row and tier. */
  #copies = new Uint16Array(TIER_COUNT * this.#table.capacity);
  #isDirty = new Uint8Array(this.#table.capacity);
  /** Dirty rows in the order in which they became so. */
  #dirty = new Uint32Array(64);
  #dirtyCount = 0;
  #blocks = 0;
  /** Where the last handle was found or put: its neighbour is looked for beside it. */
  #near = NO_ID;

  /** Rows with copies. */
  get blocks(): number {
    return this.#blocks;
  }

  get dirtyCount(): number {
    return this.#dirtyCount;
  }

  get byteLength(): number {
    const columns = this.#keys.byteLength + this.#copies.byteLength + this.#isDirty.byteLength;
    return this.#table.byteLength + columns + this.#dirty.byteLength;
  }

  /** The row of a handle, with or without copies, or NO_ID. */
  find(handle: bigint): number {
    this.#cell.set(handle);
    const row = this.#table.find(this.#cell.low, this.#cell.high, this.#near);
    if (row !== NO_ID) this.#near = row;
    return row;
  }

  /** Makes the row of a handle that has none. */
  insert(handle: bigint): number {
    this.#cell.set(handle);
    const row = this.#table.insert(this.#cell.low, this.#cell.high);
    this.#near = row;
    const { capacity } = this.#table;
    if (this.#isDirty.length < capacity) {
      this.#keys = grown(this.#keys, new Uint32Array(2 * capacity));
      this.#copies = grown(this.#copies, new Uint16Array(TIER_COUNT * capacity));
      this.#isDirty = grown(this.#isDirty, new Uint8Array(capacity));
    }
    // The row may be a used one.
    this.#copies.fill(0, TIER_COUNT * row, TIER_COUNT * (row + 1));
    this.#isDirty[row] = 0;
    return row;
  }

  hasCopies(row: number): boolean {
    for (let at = TIER_COUNT * row; at < TIER_COUNT * (row + 1); at += 1) {
      if (this.#copies[at] !== 0) return true;
    }
    return false;
  }

  copies(row: number, tierOrder: number): number {
    return this.#copies[TIER_COUNT * row + tierOrder] ?? 0;
  }

  setCopies(row: number, tierOrder: number, copies: number): void {
    const hadCopies = this.hasCopies(row);
    this.#copies[TIER_COUNT * row + tierOrder] = copies;
    const hasCopies = copies > 0 || this.hasCopies(row);
    if (hasCopies !== hadCopies) this.#blocks += hasCopies ? 1 : -1;
  }

  key(row: number): BlockKey {
    return blockKey(this.#cell.join(this.#keys[2 * row] ?? 0, this.#keys[2 * row + 1] ?? 0));
  }

  setKey(row: number, key: bigint): void {
    this.#cell.set(key);
    this.#keys[2 * row] = this.#cell.low;
    this.#keys[2 * row + 1] = this.#cell.high;
  }

  record(row: number): BlockRecord {
    return { key: this.key(row), copies: TIERS.map((_, order) => this.copies(row, order)) };
  }

  handle(row: number): bigint {
    return this.#cell.join(this.#table.low(row), this.#table.high(row));
  }

  /** Rows with copies, as of the moment they are read. */
  *rows(): Generator<number> {
    for (let row = 0; row < this.#table.idEnd; row += 1) {
      if (this.#table.isLive(row) && this.hasCopies(row)) yield row;
    }
  }

  /** Marks a row as changed. False when it was already. */
  touch(row: number): boolean {
    if (this.#isDirty[row] === 1) return false;
    this.#isDirty[row] = 1;
    if (this.#dirtyCount === this.#dirty.length) {
      this.#dirty = grown(this.#dirty, new Uint32Array(2 * this.#dirty.length));
    }
    this.#dirty[this.#dirtyCount] = row;
    this.#dirtyCount += 1;
    return true;
  }

  /** Visits every changed row, oldest change first; after it none is, and rows without copies go. */
  takeDirty(visit: (row: number) => void): void {
    for (const row of this.#dirty.subarray(0, this.#dirtyCount)) {
      visit(row);
      this.#isDirty[row] = 0;
      if (!this.hasCopies(row)) this.#table.delete(row);
    }
    this.#dirtyCount = 0;
  }
}
