/**
 * Short-lived typed arrays as pieces of larger ones: above 64 bytes, an array of its own takes about
 * 500 ns to allocate and to collect, a piece 20.
 *
 * A piece has all zeros and is nobody else's, but keeps its slab alive: whoever keeps pieces for long,
 * and few of them, copies them.
 */

const SLAB_BYTES_DEFAULT = 65_536;
/** Arrays that take more than this share of a slab are allocated by themselves. */
const PIECE_SHARE = 1 / 4;
/** Up to so many words a loop copies faster than `set` with its view. */
const COPIED_BY_LOOP = 48;

export class Slab {
  readonly #slabBytes: number;
  #buffer: ArrayBuffer;
  #words: Uint32Array;
  #longs: BigUint64Array;
  #bytesUsed = 0;
  /** Where the last `take` or `copy` has gone. */
  #taken: ArrayBuffer;
  #takenWords: Uint32Array;
  #takenLongs: BigUint64Array;

  /** `slabBytes`: what a piece keeps alive, a multiple of 8; default 65,536. */
  constructor(slabBytes = SLAB_BYTES_DEFAULT) {
    this.#slabBytes = slabBytes;
    this.#buffer = new ArrayBuffer(slabBytes);
    this.#words = new Uint32Array(this.#buffer);
    this.#longs = new BigUint64Array(this.#buffer);
    this.#taken = this.#buffer;
    this.#takenWords = this.#words;
    this.#takenLongs = this.#longs;
  }

  /** Where the last `take` or `copy` has gone. */
  get buffer(): ArrayBuffer {
    return this.#taken;
  }

  /** All words of `buffer`. */
  get words(): Uint32Array {
    return this.#takenWords;
  }

  /** The same memory as 64-bit values. */
  get longs(): BigUint64Array {
    return this.#takenLongs;
  }

  /**
   * A piece of so many words, that the caller fills and makes views of. Returns the place of the first in
   * `buffer`, a multiple of 8, in bytes.
   */
  take(length: number): number {
    if (4 * length > this.#slabBytes * PIECE_SHARE) {
      this.#taken = new ArrayBuffer((4 * length + 7) & ~7);
      this.#takenWords = new Uint32Array(this.#taken);
      this.#takenLongs = new BigUint64Array(this.#taken);
      return 0;
    }
    const place = this.#take(4 * length);
    this.#taken = this.#buffer;
    this.#takenWords = this.#words;
    this.#takenLongs = this.#longs;
    return place;
  }

  /** The same with the words from `start` to `end`. */
  copy(source: Uint32Array, start: number, end: number): number {
    const place = this.take(end - start);
    const words = this.#takenWords;
    const to = place / 4 - start;
    if (end - start > COPIED_BY_LOOP) words.set(source.subarray(start, end), place / 4);
    else for (let at = start; at < end; at += 1) words[to + at] = source[at] ?? 0;
    return place;
  }

  u64(length: number): BigUint64Array {
    if (8 * length > this.#slabBytes * PIECE_SHARE) return new BigUint64Array(length);
    const start = this.#take(8 * length);
    return new BigUint64Array(this.#buffer, start, length);
  }

  u32(length: number): Uint32Array {
    if (4 * length > this.#slabBytes * PIECE_SHARE) return new Uint32Array(length);
    const start = this.#take(4 * length);
    return new Uint32Array(this.#buffer, start, length);
  }

  /** Offset of a piece in the buffer, a multiple of 8. */
  #take(bytes: number): number {
    let start = this.#bytesUsed;
    if (start + bytes > this.#slabBytes) {
      this.#buffer = new ArrayBuffer(this.#slabBytes);
      this.#words = new Uint32Array(this.#buffer);
      this.#longs = new BigUint64Array(this.#buffer);
      start = 0;
    }
    this.#bytesUsed = start + ((bytes + 7) & ~7);
    return start;
  }
}
