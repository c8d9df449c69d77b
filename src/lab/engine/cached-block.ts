/** The truth about what an engine holds, as the checkers of other modules read it. */
import type { CachedContent } from "./block-pool.ts";
import type { LowerTier } from "./engine-facts.ts";
import type { EngineRank } from "./engine-rank.ts";

/** One physical block in the prefix cache or in a lower tier; copies are entries of their own. */
export interface CachedBlock {
  /** The hash as the events carry it: low 64 bits. */
  readonly engineHash: bigint;
  /** Every token from the start of the prompt to the end of this block. A view, not a copy. */
  readonly prefixTokens: Uint32Array;
  readonly loraName: string | null;
  readonly cacheSalt: string | null;
  readonly tier: "gpu" | LowerTier;
  /** The rank's place in the engine, from 0. */
  readonly rank: number;
}

export function cachedBlocksOf({ core, tiers }: EngineRank, rank: number): CachedBlock[] {
  const block = (content: CachedContent, tier: CachedBlock["tier"]): CachedBlock => ({
    engineHash: content.chain.hashAt(content.depth),
    prefixTokens: content.chain.tokens(0, (content.depth + 1) * content.chain.blockSizeTokens),
    loraName: content.chain.identity.loraName,
    cacheSalt: content.chain.identity.cacheSalt,
    tier,
    rank,
  });
  return [
    ...core.pool.contents().map((content) => block(content, "gpu")),
    ...tiers.contents().map((content) => block(content, content.tier)),
  ];
}
