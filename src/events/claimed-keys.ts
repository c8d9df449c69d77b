/**
 * Keys that handles have claimed of which the index may have nothing: rows by key, one row for each key.
 *
 * A key that several of them have is ambiguous already, so that one is enough. Memory: 5 to 10 bytes per
 * row.
 */
import { HandleSlots, NO_ROW } from "../indexer/handle-slots.ts";

const CAPACITY_MIN = 64;
/** HandleSlots makes more of it, and grows seldom. */
const GROWTH = 1.1;

export class ClaimedKeys {
  /** The map's column of keys, two words for each row. */
  #keys: Uint32Array;
  #slots: HandleSlots;
  #capacity = CAPACITY_MIN;

  constructor(keys: Uint32Array) {
    this.#keys = keys;
    this.#slots = new HandleSlots(keys, CAPACITY_MIN);
  }

  get byteLength(): number {
    return this.#slots.byteLength;
  }

  /** The column has moved. */
  moveTo(keys: Uint32Array): void {
    this.#keys = keys;
    this.#slots.moveTo(keys, this.#capacity);
  }

  has(low: number, high: number): boolean {
    return this.#slots.find(low, high) !== NO_ROW;
  }

  /** `rows`: how many there are, this one included. */
  add(row: number, rows: number): void {
    if (rows > this.#capacity) {
      this.#capacity = Math.ceil(rows * GROWTH);
      this.#slots.moveTo(this.#keys, this.#capacity);
    }
    const keys = this.#keys;
    if (!this.has(keys[2 * row] ?? 0, keys[2 * row + 1] ?? 0)) this.#slots.insertMissed(row);
  }

  /** Before its key changes. */
  delete(row: number): void {
    this.#slots.delete(row);
  }
}
