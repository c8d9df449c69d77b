/**
 * Bounds the bytes of all request bodies that are collected, decided on, or not yet read back.
 *
 * Threads can share one: each writes its own cell alone, and reads those of the others. Two that reserve
 * at the same moment may pass the bound by one message together.
 */

export class BodyBudget {
  readonly bytesMax: number;
  readonly #cells: Float64Array;
  readonly #own: number;

  /** `cells`: bytes of each thread, of which `own` is this one's; without them it is for one thread. */
  constructor(bytesMax: number, cells: Float64Array = new Float64Array(1), own = 0) {
    this.bytesMax = bytesMax;
    this.#cells = cells;
    this.#own = own;
  }

  /** Of all threads. */
  get bytes(): number {
    let bytes = 0;
    for (const cell of this.#cells) bytes += cell;
    return bytes;
  }

  /** False when the budget does not allow it: nothing is reserved then. */
  reserve(bytes: number): boolean {
    if (this.bytes + bytes > this.bytesMax) return false;
    this.#add(bytes);
    return true;
  }

  release(bytes: number): void {
    this.#add(-bytes);
  }

  #add(bytes: number): void {
    this.#cells[this.#own] = (this.#cells[this.#own] ?? 0) + bytes;
  }
}
