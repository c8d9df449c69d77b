/**
 * Blocks of the requests in flight, by endpoint: what it holds or is about to compute.
 *
 * A prompt's blocks count from its dispatch, so that the next prompt with the same beginning is sent
 * after it although no event has told of them. Apart from the index and never mixed into it. A request
 * has all blocks of its prompt here, and a key stands for all before it, so what an endpoint has of
 * a prompt is never with a gap. Cost: about 100 ns per block, to add and to remove.
 */
import { blockKey, type EndpointId, type Holder } from "../core/ids.ts";
import { HotIndex } from "./hot-index.ts";
import { grown, NO_ID, U64Table } from "./u64-table.ts";
import { U64Cell } from "./u64-words.ts";

export class InflightBlocks {
  readonly #index = new HotIndex();
  readonly #counts = new Map<EndpointId, BlockCounts>();

  /** Returns how many distinct blocks the endpoint's requests have now. */
  add(endpointId: EndpointId, keys: BigUint64Array): number {
    let counts = this.#counts.get(endpointId);
    if (counts === undefined) {
      if (keys.length === 0) return 0;
      counts = new BlockCounts(endpointId);
      this.#counts.set(endpointId, counts);
    }
    for (const key of keys) {
      if (counts.add(key)) this.#index.store(counts.holder, "gpu", blockKey(key));
    }
    return counts.size;
  }

  /** Takes back what was added once. Returns how many distinct blocks are left. */
  remove(endpointId: EndpointId, keys: BigUint64Array): number {
    const counts = this.#counts.get(endpointId);
    if (counts === undefined) return 0;
    for (const key of keys) {
      if (counts.remove(key)) this.#index.remove(counts.holder, "gpu", blockKey(key));
    }
    if (counts.size === 0) this.#counts.delete(endpointId);
    return counts.size;
  }

  /** Leading blocks of the prompt that requests at each endpoint have. */
  leading(keys: BigUint64Array): { readonly endpointId: EndpointId; readonly blocks: number }[] {
    return this.#index.match(keys).map(({ holder, blocks }) => ({
      ...{ endpointId: holder.endpointId, blocks },
    }));
  }
}

/** How often each block is in flight at one endpoint. */
class BlockCounts {
  readonly holder: Holder;
  readonly #cell = new U64Cell();
  readonly #table = new U64Table();
  #counts = new Uint32Array(this.#table.capacity);
  #near = NO_ID;

  constructor(endpointId: EndpointId) {
    this.holder = { endpointId, rank: 0 };
  }

  get size(): number {
    return this.#table.size;
  }

  /** True when it is the first. */
  add(key: bigint): boolean {
    const { low, high } = this.#set(key);
    const found = this.#table.find(low, high, this.#near);
    const id = found === NO_ID ? this.#table.insert(low, high) : found;
    this.#near = id;
    if (this.#counts.length < this.#table.capacity) {
      this.#counts = grown(this.#counts, new Uint32Array(this.#table.capacity));
    }
    this.#counts[id] = found === NO_ID ? 1 : (this.#counts[id] ?? 0) + 1;
    return found === NO_ID;
  }

  /** True when it was the last. */
  remove(key: bigint): boolean {
    const { low, high } = this.#set(key);
    const id = this.#table.find(low, high, this.#near);
    if (id === NO_ID) return false;
    this.#near = id;
    const left = (this.#counts[id] ?? 0) - 1;
    this.#counts[id] = left;
    if (left > 0) return false;
    this.#table.delete(id);
    return true;
  }

  #set(key: bigint): U64Cell {
    this.#cell.set(key);
    return this.#cell;
  }
}
