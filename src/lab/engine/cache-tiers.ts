/**
 * The tiers below the GPU: CPU memory, then NVMe, each a set of blocks with LRU replacement.
 *
 * A block enters the first tier, and what a full tier pushes out enters the next one; a tier holds a
 * hash at most once. A hit in a tier is loaded into GPU blocks and stays in its tier. Entering and
 * leaving is announced per scheduler step as the difference that the step made, so a block that
 * passes through a full tier within one step is not announced there.
 */
import { assert } from "../../core/assert.ts";
import type { BlockChain } from "./block-chain.ts";
import type { CachedContent, CacheFact } from "./block-pool.ts";
import type { LowerTier, TierFact } from "./engine-facts.ts";

export interface TierSizes {
  /** Blocks of the CPU tier; 0 is none. */
  readonly cpuBlocks: number;
  /** Blocks of the NVMe tier; 0 is none. */
  readonly nvmeBlocks: number;
}

export interface TierOptions {
  readonly tiers: TierSizes;
  /**
   * `evicted`: a block enters the tiers when the GPU drops it. `stored`: when the GPU stores it, full
   * prompt blocks only, as vLLM's OffloadingConnector does.
   */
  readonly offloadWhen: "evicted" | "stored";
  /** Bytes of KV of one token. */
  readonly kvBytesPerToken: number;
  /** Seconds that loading one byte into the GPU adds to a step. */
  readonly cpuLoadSecondsPerByte: number;
  readonly nvmeLoadSecondsPerByte: number;
}

/** A block of a lower tier, for the truth about the engine. */
export interface TierContent extends CachedContent {
  readonly tier: LowerTier;
}

export class CacheTiers {
  readonly #options: TierOptions;
  readonly #levels: readonly TierLevel[];

  constructor(options: TierOptions) {
    const { cpuBlocks, nvmeBlocks } = options.tiers;
    assert(cpuBlocks >= 0 && nvmeBlocks >= 0, "blocks of a tier", { cpuBlocks, nvmeBlocks });
    this.#options = options;
    this.#levels = [new TierLevel("cpu", cpuBlocks), new TierLevel("nvme", nvmeBlocks)].filter(
      (level) => level.blocksMax > 0,
    );
  }

  /** The tiers of the blocks from `firstDepth` that could be loaded: without a gap, below `endDepth`. */
  match(
    chain: BlockChain,
    range: { readonly firstDepth: number; readonly endDepth: number },
  ): LowerTier[] {
    const found: LowerTier[] = [];
    for (let depth = range.firstDepth; depth < range.endDepth; depth++) {
      const level = this.#levels.find(({ entries }) => entries.has(chain.hashAt(depth)));
      if (level === undefined) break;
      found.push(level.tier);
    }
    return found;
  }

  /** Marks matched blocks as used, heads last; returns the seconds that loading them takes. */
  load(chain: BlockChain, firstDepth: number, found: readonly LowerTier[]): number {
    const { kvBytesPerToken, cpuLoadSecondsPerByte, nvmeLoadSecondsPerByte } = this.#options;
    const blockBytes = chain.blockSizeTokens * kvBytesPerToken;
    let seconds = 0;
    for (let index = found.length - 1; index >= 0; index--) {
      const tier = found[index];
      const perByte = tier === "cpu" ? cpuLoadSecondsPerByte : nvmeLoadSecondsPerByte;
      seconds += blockBytes * perByte;
      const level = this.#levels.find((one) => one.tier === tier);
      level?.touch(chain.hashAt(firstDepth + index));
    }
    return seconds;
  }

  /** Takes note of what the GPU stored and dropped. */
  observe(facts: readonly CacheFact[]): void {
    if (this.#levels.length === 0) return;
    for (const fact of facts) {
      if (fact.kind === "removed" && this.#options.offloadWhen === "evicted") {
        this.#enter(0, { chain: fact.chain, depth: fact.depth });
      } else if (fact.kind === "stored" && this.#options.offloadWhen === "stored") {
        const { chain, firstDepth } = fact;
        const promptBlocks = Math.floor(chain.promptTokens / chain.blockSizeTokens);
        const endDepth = Math.min(firstDepth + fact.blocks, promptBlocks);
        // Tails are the older ones, so that they leave first.
        for (let depth = endDepth - 1; depth >= firstDepth; depth--) {
          this.#enter(0, { chain, depth });
        }
      }
    }
  }

  /** Forgets everything without a word, as a reset of vLLM's connector does. */
  clear(): void {
    for (const level of this.#levels) level.clear();
  }

  contents(): TierContent[] {
    return this.#levels.flatMap(({ tier, entries }) =>
      [...entries.values()].map(({ chain, depth }) => ({ chain, depth, tier })),
    );
  }

  blocks(tier: LowerTier): number {
    return this.#levels.find((level) => level.tier === tier)?.entries.size ?? 0;
  }

  /** What entered and left since the last call. */
  takeFacts(): { readonly removed: readonly TierFact[]; readonly stored: readonly TierFact[] } {
    const removed: TierFact[] = [];
    const stored: TierFact[] = [];
    for (const level of this.#levels) {
      const { tier } = level;
      const change = level.takeChange();
      if (change.left.length > 0) {
        removed.push({ kind: "tier_removed", tier, blocks: change.left });
      }
      if (change.entered.length > 0) {
        stored.push({ kind: "tier_stored", tier, blocks: change.entered });
      }
    }
    return { removed, stored };
  }

  #enter(levelIndex: number, content: CachedContent): void {
    const pushedOut = this.#levels[levelIndex]?.put(content);
    if (pushedOut !== undefined) this.#enter(levelIndex + 1, pushedOut);
  }
}

class TierLevel {
  readonly tier: LowerTier;
  readonly blocksMax: number;
  /** By hash, least recently used first. */
  readonly entries = new Map<bigint, CachedContent>();
  /** What has not been announced: never both for one hash. */
  readonly #entered = new Map<bigint, CachedContent>();
  readonly #left = new Map<bigint, CachedContent>();

  constructor(tier: LowerTier, blocksMax: number) {
    this.tier = tier;
    this.blocksMax = blocksMax;
  }

  touch(hash: bigint): boolean {
    const content = this.entries.get(hash);
    if (content === undefined) return false;
    this.entries.delete(hash);
    this.entries.set(hash, content);
    return true;
  }

  /** Returns the block that had to leave, if any. */
  put(content: CachedContent): CachedContent | undefined {
    const hash = content.chain.hashAt(content.depth);
    if (this.touch(hash)) return undefined;
    const pushedOut = this.entries.size < this.blocksMax ? undefined : this.#leaveFirst();
    this.entries.set(hash, content);
    if (!this.#left.delete(hash)) this.#entered.set(hash, content);
    return pushedOut;
  }

  clear(): void {
    this.entries.clear();
    this.#entered.clear();
    this.#left.clear();
  }

  takeChange(): { readonly entered: CachedContent[]; readonly left: CachedContent[] } {
    const change = { entered: [...this.#entered.values()], left: [...this.#left.values()] };
    this.#entered.clear();
    this.#left.clear();
    return change;
  }

  #leaveFirst(): CachedContent | undefined {
    for (const [hash, content] of this.entries) {
      this.entries.delete(hash);
      if (!this.#entered.delete(hash)) this.#left.set(hash, content);
      return content;
    }
    return undefined;
  }
}
