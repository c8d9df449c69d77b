/** Matches of holders, in blocks -> of endpoints, in tokens; with the prompts in flight there. */
import type { EndpointId } from "../core/ids.ts";
import type { FleetView } from "../fleet/endpoint-view.ts";
import type { HolderMatch } from "../indexer/block-index.ts";
import type { Tier } from "../tiers/tier.ts";

/** Leading tokens of a prompt that an endpoint holds. */
export interface EndpointMatch {
  /** Leading tokens in the GPU tier, or in prompts in flight there. */
  readonly gpuTokens: number;
  /** Leading tokens in prompts in flight there. */
  readonly inflightTokens: number;
  /** Leading tokens in any tier as the endpoint's events tell. */
  readonly heldTokens: number;
  /** All leading tokens, each under its fastest tier; those in flight under the GPU. */
  readonly tokensByTier: Readonly<Record<Tier, number>>;
}

export const NO_MATCH: EndpointMatch = {
  gpuTokens: 0,
  inflightTokens: 0,
  heldTokens: 0,
  tokensByTier: { gpu: 0, cpu: 0, nvme: 0, shared: 0 },
};

/** Leading blocks of a prompt in prompts in flight at one endpoint. */
export interface InflightMatch {
  readonly endpointId: EndpointId;
  readonly blocks: number;
}

/** All matches of one prompt that was keyed with one block size. */
export interface SizedMatches {
  readonly blockSizeTokens: number;
  readonly matches: readonly HolderMatch[];
  /** Leading blocks in prompts in flight at each endpoint whose blocks have this size. */
  readonly inflight?: readonly InflightMatch[];
}

type MatchedFleet = Pick<FleetView, "endpoints" | "positions">;

/**
 * A rank's blocks may have several sizes: its longest match counts. Ranks behind one endpoint cannot be
 * addressed, so an endpoint counts as its shallowest rank; a rank that holds nothing makes it zero.
 * Which rank has a prompt in flight is not known: what is in flight counts where there is one rank.
 */
export function endpointMatches(
  fleet: MatchedFleet,
  sized: readonly SizedMatches[],
): Map<EndpointId, EndpointMatch> {
  const found = new Map<EndpointId, EndpointMatch>();
  for (const [endpointId, byRank] of rankMatches(sized)) {
    const match = shallowest(byRank, ranksOf(endpointId, fleet));
    if (match !== undefined) found.set(endpointId, match);
  }
  for (const { blockSizeTokens, inflight = [] } of sized) {
    for (const { endpointId, blocks } of inflight) {
      if (ranksOf(endpointId, fleet) !== 1) continue;
      const match = found.get(endpointId) ?? NO_MATCH;
      const inflightTokens = blocks * blockSizeTokens;
      if (inflightTokens > match.inflightTokens) {
        found.set(endpointId, { ...withGpuLead(match, inflightTokens), inflightTokens });
      }
    }
  }
  return found;
}

/** The longest match of each rank, over all block sizes. */
function rankMatches(sized: readonly SizedMatches[]): Map<EndpointId, EndpointMatch[]> {
  const found = new Map<EndpointId, EndpointMatch[]>();
  for (const { blockSizeTokens, matches } of sized) {
    for (const match of matches) {
      const { endpointId, rank } = match.holder;
      const held = inTokens(match, blockSizeTokens);
      const byRank = found.get(endpointId);
      if (byRank === undefined) {
        const first: EndpointMatch[] = [];
        first[rank] = held;
        found.set(endpointId, first);
        continue;
      }
      const before = byRank[rank];
      byRank[rank] = before === undefined ? held : joined(before, held);
    }
  }
  return found;
}

/** 0 for an endpoint that is not in the fleet. */
function ranksOf(endpointId: EndpointId, { endpoints, positions }: MatchedFleet): number {
  const position = positions.get(endpointId);
  if (position === undefined) return 0;
  return endpoints[position]?.spec.kvEvents?.ranks ?? 1;
}

function inTokens(match: HolderMatch, blockSizeTokens: number): EndpointMatch {
  const { gpu, cpu, nvme, shared } = match.blocksByTier;
  return {
    gpuTokens: match.gpuBlocks * blockSizeTokens,
    inflightTokens: 0,
    heldTokens: match.blocks * blockSizeTokens,
    tokensByTier: {
      gpu: gpu * blockSizeTokens,
      cpu: cpu * blockSizeTokens,
      nvme: nvme * blockSizeTokens,
      shared: shared * blockSizeTokens,
    },
  };
}

/** One rank's matches with two block sizes: as far as the longer one, on the GPU as either. */
function joined(a: EndpointMatch, b: EndpointMatch): EndpointMatch {
  const [longer, other] = b.heldTokens > a.heldTokens ? [b, a] : [a, b];
  return withGpuLead(longer, other.gpuTokens);
}

/**
 * The match with so many leading tokens on the GPU: of those beyond its own lead, the first ones. In
 * which order lower tiers follow is not known here; they are taken in the order in which engines
 * push blocks down.
 */
function withGpuLead(match: EndpointMatch, leadTokens: number): EndpointMatch {
  const { gpuTokens, heldTokens } = match;
  if (leadTokens <= gpuTokens) return match;
  let { gpu, cpu, nvme, shared } = match.tokensByTier;
  if (leadTokens >= heldTokens) {
    gpu = leadTokens;
    cpu = nvme = shared = 0;
  } else {
    let covered = leadTokens - gpuTokens;
    const take = (tokens: number): number => {
      const taken = Math.min(tokens, covered);
      covered -= taken;
      gpu += taken;
      return tokens - taken;
    };
    cpu = take(cpu);
    nvme = take(nvme);
    shared = take(shared);
  }
  return { ...match, gpuTokens: leadTokens, tokensByTier: { gpu, cpu, nvme, shared } };
}

/** Undefined where one of the ranks holds nothing. */
function shallowest(byRank: readonly EndpointMatch[], ranks: number): EndpointMatch | undefined {
  let found = byRank[0];
  for (let rank = 1; found !== undefined && rank < ranks; rank += 1) {
    const match = byRank[rank];
    if (match === undefined || match.heldTokens < found.heldTokens) found = match;
  }
  return ranks === 0 ? undefined : found;
}
