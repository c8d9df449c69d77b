/** How far each holder follows a prompt, counted in runs of blocks that have one set of holders. */
import { TIERS, type Tier } from "../tiers/tier.ts";
import type { Code } from "./holder-sets.ts";

const TIER_COUNT = TIERS.length;

/** Counts of one holder; `slot` is the index's own number for it. */
export interface WalkResult {
  readonly slot: number;
  readonly gpuBlocks: number;
  readonly blocks: number;
  readonly blocksByTier: Record<Tier, number>;
}

/** Counters for each slot, reused from walk to walk. */
export class PrefixWalk {
  #blocks = new Uint32Array(0);
  #gpuBlocks = new Uint32Array(0);
  #blocksByTier = new Uint32Array(0);
  #depth = 0;
  /** Slots with the first block, in order. */
  readonly #slots: number[] = [];

  /** Starts a walk; `slotCount`: slots that may occur. */
  start(slotCount: number): void {
    if (this.#blocks.length < slotCount) {
      this.#blocks = new Uint32Array(2 * slotCount);
      this.#gpuBlocks = new Uint32Array(2 * slotCount);
      this.#blocksByTier = new Uint32Array(2 * TIER_COUNT * slotCount);
    }
    this.#depth = 0;
    this.#slots.length = 0;
  }

  /** Counts the next `length` blocks, all with these codes. False when no holder goes on. */
  advance(codes: readonly Code[], length: number): boolean {
    const depth = this.#depth;
    let hasGrown = false;
    let slotBefore = -1;
    for (const code of codes) {
      const slot = code >> 2;
      // Codes are sorted: a slot's first one is its fastest tier.
      if (slot === slotBefore) continue;
      slotBefore = slot;
      // A holder without an earlier block: its copies cannot be used.
      if (depth > 0 && this.#blocks[slot] !== depth) continue;
      if (depth === 0) this.#slots.push(slot);
      const tierOrder = code & 3;
      const at = TIER_COUNT * slot + tierOrder;
      if (tierOrder === 0 && this.#gpuBlocks[slot] === depth)
        this.#gpuBlocks[slot] = depth + length;
      this.#blocks[slot] = depth + length;
      this.#blocksByTier[at] = (this.#blocksByTier[at] ?? 0) + length;
      hasGrown = true;
    }
    this.#depth = depth + length;
    return hasGrown;
  }

  /** Hands the counts over and sets them back to 0. */
  finish(): WalkResult[] {
    return this.#slots.map((slot) => {
      const at = TIER_COUNT * slot;
      const [gpu = 0, cpu = 0, nvme = 0, shared = 0] = this.#blocksByTier.subarray(at, at + 4);
      const gpuBlocks = this.#gpuBlocks[slot] ?? 0;
      const blocks = this.#blocks[slot] ?? 0;
      this.#blocks[slot] = 0;
      this.#gpuBlocks[slot] = 0;
      this.#blocksByTier.fill(0, at, at + TIER_COUNT);
      return { slot, gpuBlocks, blocks, blocksByTier: { gpu, cpu, nvme, shared } };
    });
  }
}
