/**
 * What of one prompt could be had beyond what each endpoint holds: from shared tiers, and anywhere.
 *
 * As the index has it, in tokens; of prefixes of the same prompt in each block size of the fleet.
 */
import type { EndpointId } from "../core/ids.ts";
import type { PrefixMatch } from "../indexer/block-index.ts";

export interface SizedPrefix {
  readonly blockSizeTokens: number;
  readonly prefix: PrefixMatch;
}

export interface Supply {
  /** Leading tokens that shared tiers alone could supply. */
  readonly sharedTokens: number;
  /** Leading tokens of which each block is somewhere. */
  readonly availableTokens: number;
  /** How far an endpoint comes by its own blocks and shared tiers: its shallowest rank. */
  reachableTokens(endpointId: EndpointId, ranks: number): number;
}

export function supplyOf(prefixes: readonly SizedPrefix[]): Supply {
  const reached = new Map<EndpointId, Map<number, number>>();
  let sharedTokens = 0;
  let availableTokens = 0;
  for (const { blockSizeTokens, prefix } of prefixes) {
    sharedTokens = Math.max(sharedTokens, prefix.sharedBlocks * blockSizeTokens);
    availableTokens = Math.max(availableTokens, prefix.availableBlocks * blockSizeTokens);
    for (const { holder, blocks } of prefix.reachable) {
      const { endpointId, rank } = holder;
      const byRank = reached.get(endpointId) ?? new Map<number, number>();
      const tokens = Math.max(byRank.get(rank) ?? 0, blocks * blockSizeTokens);
      reached.set(endpointId, byRank.set(rank, tokens));
    }
  }
  const reachableTokens = (endpointId: EndpointId, ranks: number): number => {
    const byRank = reached.get(endpointId);
    // A rank that is not told of comes as far as the shared tiers.
    if (byRank === undefined || byRank.size < ranks) return sharedTokens;
    return Math.max(sharedTokens, Math.min(...byRank.values()));
  };
  return { sharedTokens, availableTokens, reachableTokens };
}
