/**
 * The KV memory of one engine, block for block as vLLM's block pool keeps it.
 *
 * Physical blocks 1 to gpuBlocks - 1 (block 0 is vLLM's null block and never holds data) with
 * reference counts. A block that nobody references waits in the free queue, still cached, until it
 * is needed for something else; a request gives its blocks back tail first, so tails are evicted
 * before heads. Blocks without cached content are taken before those (vLLM 0.33; 0.11 queues them
 * in order). Equal content is not merged: two equal prompts in one step, or the recomputed last
 * block of a fully cached prompt, store one hash twice, and each copy is removed by itself.
 *
 * Everything that happens is noted as facts, in order, for publication (see CacheFact).
 */
import { assert } from "../../core/assert.ts";
import type { BlockChain } from "./block-chain.ts";
import { FreeQueue } from "./free-queue.ts";

/** What a KV event tells. A chain is shared, never copied; it only grows behind what is told. */
export type CacheFact =
  /** Consecutive full blocks of one request in one step. */
  | {
      readonly kind: "stored";
      readonly chain: BlockChain;
      readonly firstDepth: number;
      readonly blocks: number;
    }
  /** Blocks that a request hit, told as if they were stored (kv_cache_report_mode=full). */
  | {
      readonly kind: "reported";
      readonly chain: BlockChain;
      readonly firstDepth: 0;
      readonly blocks: number;
    }
  /** One evicted copy. */
  | { readonly kind: "removed"; readonly chain: BlockChain; readonly depth: number }
  /** Every copy is gone. */
  | { readonly kind: "cleared" };

/** A physical block that is in the prefix cache. */
export interface CachedContent {
  readonly chain: BlockChain;
  readonly depth: number;
}

export class BlockPool {
  /** Blocks that can hold data. */
  readonly usableBlocks: number;
  readonly #references: Int32Array;
  readonly #content: (CachedContent | null)[];
  readonly #free: FreeQueue;
  /** Copies by hash, oldest first. 64 of the 256 bits: two of 2^32 blocks would have to collide. */
  readonly #byHash = new Map<bigint, number[]>();
  #facts: CacheFact[] = [];
  #cachedBlocks = 0;

  constructor(gpuBlocks: number) {
    assert(gpuBlocks >= 2, "a pool needs the null block and one more", { gpuBlocks });
    this.usableBlocks = gpuBlocks - 1;
    this.#references = new Int32Array(gpuBlocks);
    this.#content = new Array<CachedContent | null>(gpuBlocks).fill(null);
    this.#free = new FreeQueue(gpuBlocks);
    for (let block = 1; block < gpuBlocks; block++) this.#free.append(block);
  }

  /** Blocks that no request references, cached or not. */
  get freeBlocks(): number {
    return this.#free.length;
  }

  /** Physical blocks in the prefix cache, copies counted. */
  get cachedBlocks(): number {
    return this.#cachedBlocks;
  }

  get distinctHashes(): number {
    return this.#byHash.size;
  }

  /** Share of the usable blocks that requests reference, 0 to 1. */
  get usage(): number {
    return 1 - this.freeBlocks / this.usableBlocks;
  }

  isReferenced(block: number): boolean {
    return (this.#references[block] ?? 0) > 0;
  }

  /**
   * The cached blocks that a new request can use: leading blocks without a gap, and never the
   * whole prompt, because the engine must compute at least one token.
   */
  match(chain: BlockChain): number[] {
    const blocksMax = Math.floor((chain.tokenCount - 1) / chain.blockSizeTokens);
    const hit: number[] = [];
    for (let depth = 0; depth < blocksMax; depth++) {
      const block = this.#byHash.get(chain.hashAt(depth))?.[0];
      if (block === undefined) break;
      hit.push(block);
    }
    return hit;
  }

  /** References cached blocks for a request. */
  reference(blocks: readonly number[]): void {
    for (const block of blocks) {
      if (!this.isReferenced(block)) this.#free.remove(block);
      this.#references[block] = (this.#references[block] ?? 0) + 1;
    }
  }

  /** Takes the least recently used free block, evicting what it holds. */
  take(): number {
    assert(this.#free.length > 0, "admission must keep the pool from running empty");
    const block = this.#free.shift();
    this.#evict(block);
    this.#references[block] = 1;
    return block;
  }

  /**
   * Enters full blocks of a request into the prefix cache, as one fact. `blocks` is the request's
   * block table; depths [firstDepth, endDepth) become cached.
   */
  store(
    chain: BlockChain,
    blocks: readonly number[],
    range: { readonly firstDepth: number; readonly endDepth: number },
  ): void {
    const { firstDepth, endDepth } = range;
    if (endDepth <= firstDepth) return;
    for (let depth = firstDepth; depth < endDepth; depth++) {
      const block = blocks[depth];
      assert(block !== undefined && this.#content[block] === null, "block to store is not free", {
        depth,
      });
      this.#content[block] = { chain, depth };
      const hash = chain.hashAt(depth);
      const copies = this.#byHash.get(hash);
      if (copies === undefined) this.#byHash.set(hash, [block]);
      else copies.push(block);
    }
    this.#cachedBlocks += endDepth - firstDepth;
    this.#facts.push({ kind: "stored", chain, firstDepth, blocks: endDepth - firstDepth });
  }

  /** Tells the leading blocks that a request hit; nothing changes. */
  reportHits(chain: BlockChain, blocks: number): void {
    if (blocks > 0) this.#facts.push({ kind: "reported", chain, firstDepth: 0, blocks });
  }

  /** Gives back a request's blocks, tail first. They stay cached. */
  release(blocks: readonly number[]): void {
    for (let index = blocks.length - 1; index >= 0; index--) {
      const block = blocks[index] ?? 0;
      const references = (this.#references[block] ?? 0) - 1;
      assert(references >= 0, "block released more often than referenced", { block });
      this.#references[block] = references;
      if (references > 0) continue;
      if (this.#content[block] === null) this.#free.prepend(block);
      else this.#free.append(block);
    }
  }

  /** Empties the prefix cache; refused while any request holds a block, as vLLM does. */
  reset(): boolean {
    if (this.#free.length !== this.usableBlocks) return false;
    this.#content.fill(null);
    this.#byHash.clear();
    this.#cachedBlocks = 0;
    this.#facts.push({ kind: "cleared" });
    return true;
  }

  /** Evicts every cached copy that no request references, oldest first; returns how many. */
  evictUnreferenced(): number {
    let evicted = 0;
    for (const block of this.#free) if (this.#evict(block)) evicted += 1;
    return evicted;
  }

  /** Evicts the unreferenced copies of a chain's full blocks, tail first; returns how many. */
  evictChain(chain: BlockChain): number {
    let evicted = 0;
    for (let depth = chain.fullBlocks - 1; depth >= 0; depth--) {
      for (const block of [...(this.#byHash.get(chain.hashAt(depth)) ?? [])]) {
        if (!this.isReferenced(block) && this.#evict(block)) evicted += 1;
      }
    }
    return evicted;
  }

  /** What is cached, one entry per physical block. */
  contents(): CachedContent[] {
    return this.#content.filter((content) => content !== null);
  }

  /** The facts since the last call, in order. */
  takeFacts(): readonly CacheFact[] {
    const facts = this.#facts;
    if (facts.length > 0) this.#facts = [];
    return facts;
  }

  #evict(block: number): boolean {
    const content = this.#content[block];
    if (content === null || content === undefined) return false;
    const hash = content.chain.hashAt(content.depth);
    const copies = this.#byHash.get(hash) ?? [];
    if (copies.length <= 1) this.#byHash.delete(hash);
    else copies.splice(copies.indexOf(block), 1);
    this.#content[block] = null;
    this.#cachedBlocks -= 1;
    this.#facts.push({ kind: "removed", chain: content.chain, depth: content.depth });
    return true;
  }
}
