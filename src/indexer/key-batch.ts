/** Keys collected for one call: a buffer that is used again, as long as the longest batch. */
import { wordsOf } from "./u64-words.ts";

const LENGTH_MIN = 1024;

export class KeyBatch {
  #keys = new BigUint64Array(LENGTH_MIN);
  #words = wordsOf(this.#keys);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Begins with what was pushed; valid until the next `start`. */
  get buffer(): BigUint64Array {
    return this.#keys;
  }

  /** What was pushed; valid until the next `start`. */
  get keys(): BigUint64Array {
    return this.#keys.subarray(0, this.#length);
  }

  /** Begins a batch of at most `lengthMax` keys. */
  start(lengthMax: number): void {
    this.#length = 0;
    if (lengthMax <= this.#keys.length) return;
    this.#keys = new BigUint64Array(2 * lengthMax);
    this.#words = wordsOf(this.#keys);
  }

  push(low: number, high: number): void {
    const at = 2 * this.#length;
    this.#words[at] = low;
    this.#words[at + 1] = high;
    this.#length += 1;
  }
}
