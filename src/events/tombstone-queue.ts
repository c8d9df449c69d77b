/**
 * Rows of removed handles in the order of their removal, any of which may be taken back.
 *
 * A ring. A row that is taken back stays in the queue and is counted there as stale: the entries of a row
 * are passed in their order, so its stale ones come first. They are squeezed out when the ring is full, so
 * that every operation costs a constant on average. Bounded by four times the limit.
 */
import { assert } from "../core/assert.ts";

/** A power of two, as all lengths. */
const CAPACITY_MIN = 64;

export class TombstoneQueue {
  readonly #sizeMax: number;
  #rows = new Uint32Array(CAPACITY_MIN);
  /** Counted on and on; places are their remainders. */
  #start = 0;
  #end = 0;
  #size = 0;
  /** Entries of a row that do not count. */
  readonly #stale = new Map<number, number>();

  /** `sizeMax`: rows at most; the caller shifts one out when there is one more. */
  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
  }

  get size(): number {
    return this.#size;
  }

  get byteLength(): number {
    return this.#rows.byteLength;
  }

  /** Appends a row that is not in the queue, or was taken back. */
  push(row: number): void {
    if (this.#end - this.#start === this.#rows.length) this.#squeeze();
    this.#rows[this.#end & (this.#rows.length - 1)] = row;
    this.#end += 1;
    this.#size += 1;
  }

  /** Takes back a row that is in the queue. */
  takeBack(row: number): void {
    this.#stale.set(row, (this.#stale.get(row) ?? 0) + 1);
    this.#size -= 1;
  }

  /** Takes the oldest row out. */
  shift(): number {
    assert(this.#size > 0, "shift of an empty queue");
    for (;;) {
      const row = this.#rows[this.#start & (this.#rows.length - 1)] ?? 0;
      this.#start += 1;
      if (this.#stale.size > 0 && this.#isStale(row)) continue;
      this.#size -= 1;
      return row;
    }
  }

  /** Rows that will be shifted out next, about: at most `count`, and stale ones are among them. */
  next(count: number): Uint32Array {
    const first = this.#start & (this.#rows.length - 1);
    const length = Math.min(count, this.#end - this.#start);
    return this.#rows.subarray(first, Math.min(first + length, this.#rows.length));
  }

  clear(): void {
    this.#rows = new Uint32Array(CAPACITY_MIN);
    this.#start = 0;
    this.#end = 0;
    this.#size = 0;
    this.#stale.clear();
  }

  /** Passes an entry of a row, the oldest that is left. */
  #isStale(row: number): boolean {
    const stale = this.#stale.get(row);
    if (stale === undefined) return false;
    if (stale === 1) this.#stale.delete(row);
    else this.#stale.set(row, stale - 1);
    return true;
  }

  #squeeze(): void {
    const from = this.#rows;
    const isHoley = this.#size <= from.length / 2;
    const length = isHoley ? from.length : 2 * from.length;
    assert(length <= 4 * this.#sizeMax + CAPACITY_MIN, "queue over its limit", { length });
    const rows = new Uint32Array(length);
    let end = 0;
    for (let at = this.#start; at < this.#end; at += 1) {
      const row = from[at & (from.length - 1)] ?? 0;
      if (this.#isStale(row)) continue;
      rows[end] = row;
      end += 1;
    }
    this.#rows = rows;
    this.#start = 0;
    this.#end = end;
  }
}
