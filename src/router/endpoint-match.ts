/** Matches of holders, in blocks -> matches of endpoints, in tokens. */
import type { EndpointId } from "../core/ids.ts";
import type { EndpointView } from "../fleet/fleet.ts";
import type { HolderMatch } from "../indexer/block-index.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";
import type { EndpointMatch } from "./cost.ts";

/** All matches of one prompt that was keyed with one block size. */
export interface SizedMatches {
  readonly blockSizeTokens: number;
  readonly matches: readonly HolderMatch[];
}

/**
 * Ranks behind one endpoint cannot be addressed, so an endpoint counts as its shallowest rank; a
 * rank that holds nothing makes it zero.
 */
export function endpointMatches(
  endpoints: readonly EndpointView[],
  sized: readonly SizedMatches[],
): Map<EndpointId, EndpointMatch> {
  const byRank = new Map<EndpointId, EndpointMatch[]>();
  for (const { blockSizeTokens, matches } of sized) {
    for (const match of matches) {
      const { endpointId } = match.holder;
      const ranks = byRank.get(endpointId) ?? [];
      ranks.push(inTokens(match, blockSizeTokens));
      byRank.set(endpointId, ranks);
    }
  }
  const found = new Map<EndpointId, EndpointMatch>();
  for (const { spec } of endpoints) {
    const ranks = byRank.get(spec.id);
    if (ranks === undefined || ranks.length < (spec.kvEvents?.ranks ?? 1)) continue;
    found.set(spec.id, ranks.reduce(shallower));
  }
  return found;
}

function inTokens(match: HolderMatch, blockSizeTokens: number): EndpointMatch {
  const tokens = (tier: Tier): number => match.blocksByTier[tier] * blockSizeTokens;
  return {
    gpuTokens: match.gpuBlocks * blockSizeTokens,
    tokensByTier: {
      gpu: tokens("gpu"),
      cpu: tokens("cpu"),
      nvme: tokens("nvme"),
      shared: tokens("shared"),
    },
  };
}

function shallower(a: EndpointMatch, b: EndpointMatch): EndpointMatch {
  return reach(b) < reach(a) ? b : a;
}

function reach({ tokensByTier }: EndpointMatch): number {
  return TIERS.reduce((sum, tier) => sum + tokensByTier[tier], 0);
}
