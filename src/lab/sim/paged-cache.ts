/**
 * KV memory of a simulated pod: GPU blocks with reference counts and a prefix cache, least recently
 * used first out; below it CPU memory and NVMe.
 *
 * The same rules as the lab engine's block pool (lab/engine), for block ids in place of hashes of
 * tokens, which makes a simulated hour a matter of seconds. A second copy of a cached block is not
 * cached. A block enters the CPU tier when the GPU stores it, as vLLM's OffloadingConnector does;
 * what the CPU tier pushes out enters NVMe.
 */
import { assert } from "../../core/assert.ts";
import { FreeQueue } from "../engine/free-queue.ts";
import { ChangeSet } from "./change-set.ts";

export interface CacheSizes {
  readonly gpuBlocks: number;
  /** 0: no such tier. */
  readonly cpuBlocks: number;
  readonly diskBlocks: number;
}

const NO_BLOCK = -1;

export class PagedCache {
  readonly gpuChanges = new ChangeSet();
  readonly cpu: LruTier;
  readonly disk: LruTier;
  readonly gpuBlocks: number;
  /** By slot, from 1: slot 0 is the free queue's end mark. */
  readonly #references: Int32Array;
  readonly #blockAt: Float64Array;
  readonly #slotOf = new Map<number, number>();
  readonly #free: FreeQueue;

  constructor(sizes: CacheSizes) {
    const slots = sizes.gpuBlocks + 1;
    this.gpuBlocks = sizes.gpuBlocks;
    this.#references = new Int32Array(slots);
    this.#blockAt = new Float64Array(slots).fill(NO_BLOCK);
    this.#free = new FreeQueue(slots);
    for (let slot = 1; slot < slots; slot++) this.#free.append(slot);
    this.disk = new LruTier(sizes.diskBlocks, null);
    this.cpu = new LruTier(sizes.cpuBlocks, this.disk);
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  /** Share of the blocks that requests reference. */
  get usage(): number {
    return 1 - this.#free.length / this.gpuBlocks;
  }

  has(block: number): boolean {
    return this.#slotOf.has(block);
  }

  /** Leading blocks in the GPU, at most `blocksMax`. */
  matchGpu(blocks: readonly number[], blocksMax: number): number {
    let depth = 0;
    while (depth < blocksMax && this.#slotOf.has(blocks[depth] ?? NO_BLOCK)) depth += 1;
    return depth;
  }

  /** How many of the first `count` blocks, all cached, nobody references. */
  idleOf(blocks: readonly number[], count: number): number {
    let idle = 0;
    for (let depth = 0; depth < count; depth++) {
      const slot = this.#slotOf.get(blocks[depth] ?? NO_BLOCK) ?? 0;
      if (this.#references[slot] === 0) idle += 1;
    }
    return idle;
  }

  /** References the first `count` blocks, all cached; returns their slots. */
  reference(blocks: readonly number[], count: number): number[] {
    const slots: number[] = [];
    for (let depth = 0; depth < count; depth++) {
      const slot = this.#slotOf.get(blocks[depth] ?? NO_BLOCK) ?? 0;
      assert(slot !== 0, "block to reference is not cached", { depth });
      const references = this.#references[slot] ?? 0;
      if (references === 0) this.#free.remove(slot);
      this.#references[slot] = references + 1;
      slots.push(slot);
    }
    return slots;
  }

  /** Takes the least recently used free block, evicting what it holds. */
  take(): number {
    assert(this.#free.length > 0, "no free block to take");
    const slot = this.#free.shift();
    const evicted = this.#blockAt[slot] ?? NO_BLOCK;
    if (evicted !== NO_BLOCK) {
      this.#slotOf.delete(evicted);
      this.#blockAt[slot] = NO_BLOCK;
      this.gpuChanges.leave(evicted);
    }
    this.#references[slot] = 1;
    return slot;
  }

  /** Enters full blocks of a request into the prefix cache: `slots[depth]` holds `blocks[depth]`. */
  store(
    slots: readonly number[],
    blocks: readonly number[],
    range: { readonly firstDepth: number; readonly endDepth: number },
  ): void {
    for (let depth = range.firstDepth; depth < range.endDepth; depth++) {
      const block = blocks[depth] ?? NO_BLOCK;
      if (block === NO_BLOCK || this.#slotOf.has(block)) continue;
      const slot = slots[depth] ?? 0;
      this.#slotOf.set(block, slot);
      this.#blockAt[slot] = block;
      this.gpuChanges.enter(block);
    }
    // Tails are the older ones below, so that they leave first.
    for (let depth = range.endDepth - 1; depth >= range.firstDepth; depth--) {
      const block = blocks[depth] ?? NO_BLOCK;
      if (block !== NO_BLOCK) this.cpu.put(block);
    }
  }

  /** Gives back a request's blocks, tail first; cached ones stay cached until they are needed. */
  release(slots: readonly number[]): void {
    for (let index = slots.length - 1; index >= 0; index--) {
      const slot = slots[index] ?? 0;
      const references = (this.#references[slot] ?? 0) - 1;
      assert(references >= 0, "block released more often than referenced", { slot });
      this.#references[slot] = references;
      if (references > 0) continue;
      if (this.#blockAt[slot] === NO_BLOCK) this.#free.prepend(slot);
      else this.#free.append(slot);
    }
  }
}

/** A set of blocks with LRU replacement; what it pushes out enters the tier below. */
class LruTier {
  readonly changes = new ChangeSet();
  readonly #blocksMax: number;
  readonly #below: LruTier | null;
  /** Least recently used first. */
  readonly #blocks = new Set<number>();

  constructor(blocksMax: number, below: LruTier | null) {
    this.#blocksMax = blocksMax;
    this.#below = below;
  }

  has(block: number): boolean {
    return this.#blocks.has(block);
  }

  put(block: number): void {
    if (this.#blocksMax === 0 || this.touch(block)) return;
    if (this.#blocks.size >= this.#blocksMax) this.#pushOutOldest();
    this.#blocks.add(block);
    this.changes.enter(block);
  }

  /** Marks a block as used; false when it is not here. */
  touch(block: number): boolean {
    if (!this.#blocks.delete(block)) return false;
    this.#blocks.add(block);
    return true;
  }

  #pushOutOldest(): void {
    for (const oldest of this.#blocks) {
      this.#blocks.delete(oldest);
      this.changes.leave(oldest);
      this.#below?.put(oldest);
      return;
    }
  }
}
