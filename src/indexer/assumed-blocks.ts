/**
 * What endpoints without KV events are taken to hold: the blocks of prompts that they answered.
 *
 * A guess of bounded life and number, apart from the index and never mixed into it. Least recently
 * assumed blocks go first, of one prompt its last blocks, as engines evict. Pure: the caller brings
 * the time. Cost: about 100 ns per block to assume; to look, for each doubling of the blocks.
 */
import type { EndpointId } from "../core/ids.ts";

/** Blocks assumed at one endpoint whose engine does not say how many it has. */
export const ASSUMED_BLOCKS_DEFAULT = 16_384;
/** Blocks assumed at one endpoint, however many its engine says it has. */
export const ASSUMED_BLOCKS_MAX = 262_144;

export interface AssumedPrompt {
  /** Keys of the prompt's full blocks. */
  readonly keys: BigUint64Array;
  /** Blocks of the engine's GPU pool; null: not known. */
  readonly gpuBlocks: number | null;
  /** Monotonic ms; never earlier than that of a former call. */
  readonly nowMs: number;
}

export class AssumedBlocks {
  readonly #lifeMs: number;
  /** By endpoint: key -> when it was assumed; the oldest come first. */
  readonly #endpoints = new Map<EndpointId, Map<bigint, number>>();

  constructor(options: { readonly lifeMs: number }) {
    this.#lifeMs = options.lifeMs;
  }

  /** The endpoint answered this prompt: it holds its blocks for a while. */
  assume(endpointId: EndpointId, { keys, gpuBlocks, nowMs }: AssumedPrompt): void {
    const blocks = this.#endpoints.get(endpointId) ?? new Map<bigint, number>();
    this.#endpoints.set(endpointId, blocks);
    const blocksMax = Math.min(gpuBlocks ?? ASSUMED_BLOCKS_DEFAULT, ASSUMED_BLOCKS_MAX);
    // Last block first, so that the first one is the youngest and the last to go.
    for (const key of keys.subarray(0, blocksMax).toReversed()) {
      blocks.delete(key);
      blocks.set(key, nowMs);
    }
    for (const key of blocks.keys()) {
      if (blocks.size <= blocksMax) break;
      blocks.delete(key);
    }
  }

  /** Leading blocks of the prompt that the endpoint is taken to hold. */
  leadingBlocks(endpointId: EndpointId, keys: BigUint64Array, nowMs: number): number {
    const blocks = this.#endpoints.get(endpointId);
    if (blocks === undefined) return 0;
    const isHeld = (key: bigint): boolean => {
      const atMs = blocks.get(key);
      return atMs !== undefined && nowMs - atMs < this.#lifeMs;
    };
    // A block is never assumed later than those before it, nor dropped after them: where one is held,
    // all before it are.
    let held = 0;
    let most = keys.length;
    while (held < most) {
      const middle = (held + most) >>> 1;
      if (isHeld(keys[middle] ?? 0n)) held = middle + 1;
      else most = middle;
    }
    return held;
  }

  /** Its events tell better, or it is gone. */
  forget(endpointId: EndpointId): void {
    this.#endpoints.delete(endpointId);
  }

  endpoints(): EndpointId[] {
    return [...this.#endpoints.keys()];
  }

  blocksOf(endpointId: EndpointId): number {
    return this.#endpoints.get(endpointId)?.size ?? 0;
  }

  /** Drops what has outlived its life. Called now and then. */
  expire(nowMs: number): void {
    for (const [endpointId, blocks] of this.#endpoints) {
      for (const [key, atMs] of blocks) {
        if (nowMs - atMs < this.#lifeMs) break;
        blocks.delete(key);
      }
      if (blocks.size === 0) this.#endpoints.delete(endpointId);
    }
  }
}
