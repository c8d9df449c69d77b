/** Collects a request body that comes in chunks, within a limit. */

/** Chunks of at least this size are kept as they are; smaller neighbours are merged. */
const MERGE_BYTES = 16_384;

const EMPTY = Buffer.alloc(0);

export class BodyBuffer {
  readonly bytesMax: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False when the body would pass the limit; the chunk is then not kept. */
  push(chunk: Buffer): boolean {
    if (this.#bytes + chunk.length > this.bytesMax) return false;
    this.#bytes += chunk.length;
    // A body sent byte by byte must not cost an object for each byte. Merging equal sizes, as a
    // binary counter does, copies each byte at most log2(MERGE_BYTES) times.
    let merged = chunk;
    let last = this.#chunks.at(-1);
    while (last !== undefined && last.length < MERGE_BYTES && last.length <= merged.length) {
      this.#chunks.pop();
      merged = Buffer.concat([last, merged]);
      last = this.#chunks.at(-1);
    }
    if (merged.length > 0) this.#chunks.push(merged);
    return true;
  }

  /** The whole body; copied only when it came in more than one chunk. Leaves the buffer empty. */
  take(): Buffer {
    const [first] = this.#chunks;
    const whole = this.#chunks.length > 1 ? Buffer.concat(this.#chunks, this.#bytes) : first;
    this.#chunks = [];
    this.#bytes = 0;
    return whole ?? EMPTY;
  }
}
