/** Collects a request body that comes in chunks, within its own limit and the budget of all. */
import type { BodyBudget } from "./body-budget.ts";

/** Chunks of at least this size are kept as they are; smaller neighbours are merged. */
const MERGE_BYTES = 16_384;

const EMPTY = Buffer.alloc(0);

export class BodyBuffer {
  readonly bytesMax: number;
  readonly #budget: BodyBudget;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #reservedBytes = 0;

  constructor(bytesMax: number, budget: BodyBudget) {
    this.bytesMax = bytesMax;
    this.#budget = budget;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Takes so much of the budget for what waits with the body. False: the budget does not allow it. */
  reserve(bytes: number): boolean {
    if (!this.#budget.reserve(bytes)) return false;
    this.#reservedBytes += bytes;
    return true;
  }

  /** Where the body would pass a limit, the chunk is not kept. */
  push(chunk: Buffer): "kept" | "too-large" | "over-budget" {
    if (this.#bytes + chunk.length > this.bytesMax) return "too-large";
    if (!this.reserve(chunk.length)) return "over-budget";
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
    return "kept";
  }

  /** Gives the budget back what this body took, once nobody needs its bytes any more. */
  release(): void {
    this.#budget.release(this.#reservedBytes);
    this.#reservedBytes = 0;
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
