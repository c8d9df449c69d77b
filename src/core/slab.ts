/**
 * Short-lived typed arrays as pieces of larger ones: above 64 bytes, an array of its own takes about
 * 500 ns to allocate and to collect, a piece 20.
 *
 * A piece has all zeros and is nobody else's, but keeps its slab alive: whoever keeps pieces for long,
 * and few of them, copies them.
 */

const SLAB_BYTES = 65_536;
/** Longer arrays are allocated by themselves. */
const PIECE_BYTES_MAX = 16_384;

export class Slab {
  #buffer = new ArrayBuffer(SLAB_BYTES);
  #bytesUsed = 0;

  u64(length: number): BigUint64Array {
    if (8 * length > PIECE_BYTES_MAX) return new BigUint64Array(length);
    const start = this.#take(8 * length);
    return new BigUint64Array(this.#buffer, start, length);
  }

  u32(length: number): Uint32Array {
    if (4 * length > PIECE_BYTES_MAX) return new Uint32Array(length);
    const start = this.#take(4 * length);
    return new Uint32Array(this.#buffer, start, length);
  }

  /** Offset of a piece in the buffer, a multiple of 8. */
  #take(bytes: number): number {
    let start = this.#bytesUsed;
    if (start + bytes > SLAB_BYTES) {
      this.#buffer = new ArrayBuffer(SLAB_BYTES);
      start = 0;
    }
    this.#bytesUsed = start + ((bytes + 7) & ~7);
    return start;
  }
}
