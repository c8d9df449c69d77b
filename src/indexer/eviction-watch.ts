/**
 * Tells whether one block left one endpoint since a moment: a prediction made at that moment was
 * then right when it was made, and stale when it was used.
 *
 * Stands before the index and sees what is removed from it. Cost per removal: one look-up.
 */
import type { BlockKey, EndpointId, Holder } from "../core/ids.ts";
import type { Tier } from "../tiers/tier.ts";
import type { IndexWriter } from "./block-index.ts";

export interface WatchedBlock {
  readonly endpointId: EndpointId;
  readonly key: bigint;
  /** True once any tier of any rank of the endpoint has lost the block. */
  isEvicted: boolean;
}

export class EvictionWatch implements IndexWriter {
  readonly #next: IndexWriter;
  readonly #endpoints = new Map<EndpointId, Map<bigint, Set<WatchedBlock>>>();

  constructor(next: IndexWriter) {
    this.#next = next;
  }

  store(holder: Holder, tier: Tier, key: BlockKey): void {
    this.#next.store(holder, tier, key);
  }

  remove(holder: Holder, tier: Tier, key: BlockKey): void {
    this.#next.remove(holder, tier, key);
    const watched = this.#endpoints.get(holder.endpointId)?.get(key);
    if (watched === undefined) return;
    for (const block of watched) block.isEvicted = true;
  }

  /** Watches a block from now on, until `unwatch`. */
  watch(endpointId: EndpointId, key: bigint): WatchedBlock {
    const block: WatchedBlock = { endpointId, key, isEvicted: false };
    const keys = this.#endpoints.get(endpointId) ?? new Map<bigint, Set<WatchedBlock>>();
    const blocks = keys.get(key) ?? new Set();
    this.#endpoints.set(endpointId, keys.set(key, blocks.add(block)));
    return block;
  }

  unwatch(block: WatchedBlock): void {
    const keys = this.#endpoints.get(block.endpointId);
    const blocks = keys?.get(block.key);
    if (keys === undefined || blocks === undefined) return;
    blocks.delete(block);
    if (blocks.size === 0) keys.delete(block.key);
    if (keys.size === 0) this.#endpoints.delete(block.endpointId);
  }

  /** Endpoints with watched blocks. */
  get size(): number {
    return this.#endpoints.size;
  }
}
