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

export class Slab {
  readonly #slabBytes: number;
  #buffer: ArrayBuffer;
  #bytesUsed = 0;

  /** `slabBytes`: what a piece keeps alive, a multiple of 8; default 65,536. */
  constructor(slabBytes = SLAB_BYTES_DEFAULT) {
    this.#slabBytes = slabBytes;
    this.#buffer = new ArrayBuffer(slabBytes);
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
      start = 0;
    }
    this.#bytesUsed = start + ((bytes + 7) & ~7);
    return start;
  }
}
