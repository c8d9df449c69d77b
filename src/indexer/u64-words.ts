/** Between 64-bit values at interfaces and the pairs of 32-bit words inside. */
import os from "node:os";
import { assert } from "../core/assert.ts";

assert(os.endianness() === "LE", "tables of 64-bit keys need a little-endian machine");

/** The same memory as pairs of words, low first. */
export function wordsOf(values: BigUint64Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, 2 * values.length);
}

/** One value, readable and writable as words or as a bigint. */
export class U64Cell {
  readonly #value = new BigUint64Array(1);
  readonly #words = wordsOf(this.#value);

  set(value: bigint): void {
    this.#value[0] = value;
  }

  get low(): number {
    return this.#words[0] ?? 0;
  }

  get high(): number {
    return this.#words[1] ?? 0;
  }

  /** The value of two words; allocates it. */
  join(low: number, high: number): bigint {
    this.#words[0] = low;
    this.#words[1] = high;
    return this.#value[0] ?? 0n;
  }
}
