/** Answers -> messages of proto/kvatlas/v1. Pure. */
import type { KnownState } from "../router/known-state.ts";
import type { BestMatch } from "./gen/kvatlas/v1/BestMatch.ts";
import type { EndpointMatch } from "./gen/kvatlas/v1/EndpointMatch.ts";
import type { KnownState as KnownStateMessage } from "./gen/kvatlas/v1/KnownState.ts";
import type { MatchResponse } from "./gen/kvatlas/v1/MatchResponse.ts";
import type { Pod } from "./gen/kvatlas/v1/Pod.ts";
import type { ResidencyResponse } from "./gen/kvatlas/v1/ResidencyResponse.ts";
import type { StatsResponse } from "./gen/kvatlas/v1/StatsResponse.ts";
import type {
  BlockPlace,
  EndpointHolding,
  MatchAnswer,
  PodState,
  QueryStats,
} from "./index-queries.ts";

const TIER_NAMES = { gpu: "GPU", cpu: "CPU", nvme: "NVME", shared: "SHARED" } as const;

export function matchResponse(answer: MatchAnswer): MatchResponse {
  return {
    endpoints: answer.endpoints.map(endpointMatch),
    best: answer.best === null ? null : bestMatch(answer.best),
    prompt_tokens: answer.promptTokens,
    shared_prefix_tokens: answer.sharedPrefixTokens,
    available_tokens: answer.availableTokens,
  };
}

export function residencyResponse(places: readonly BlockPlace[]): ResidencyResponse {
  return {
    places: places.map(({ holder, tier }) => ({
      endpoint: holder.endpointId,
      rank: holder.rank,
      tier: TIER_NAMES[tier],
    })),
  };
}

export function podMessage({ endpointId, name, ready, state, ranks }: PodState): Pod {
  return {
    ...{ endpoint: endpointId, name, ready, state: stateMessage(state) },
    ranks: ranks.map((each) => ({
      rank: each.rank,
      state: stateMessage(each.state),
      block_size_tokens: each.blockSizeTokens ?? 0,
    })),
  };
}

export function statsResponse(stats: QueryStats): StatsResponse {
  const { gpu, cpu, nvme, shared } = stats.entriesByTier;
  const { EXACT, DEGRADED, FALLBACK } = stats.endpointsByState;
  return {
    blocks: stats.blocks,
    ...{ gpu_entries: gpu, cpu_entries: cpu, nvme_entries: nvme, shared_entries: shared },
    ...{ exact_endpoints: EXACT, degraded_endpoints: DEGRADED, fallback_endpoints: FALLBACK },
    block_sizes_tokens: [...stats.blockSizesTokens],
  };
}

function endpointMatch(holding: EndpointHolding): EndpointMatch {
  const { gpu, cpu, nvme, shared } = holding.tokensByTier;
  return {
    endpoint: holding.endpointId,
    state: stateMessage(holding.state),
    gpu_prefix_tokens: holding.gpuPrefixTokens,
    prefix_tokens: holding.prefixTokens,
    ...{ gpu_tokens: gpu, cpu_tokens: cpu, nvme_tokens: nvme, shared_tokens: shared },
    reachable_tokens: holding.reachableTokens,
  };
}

function bestMatch({ endpointId, prefixTokens, reachableTokens }: EndpointHolding): BestMatch {
  return {
    ...{ endpoint: endpointId, prefix_tokens: prefixTokens, reachable_tokens: reachableTokens },
  };
}

function stateMessage({ state, reason }: KnownState): KnownStateMessage {
  return { knowledge: state, reason: reason ?? "" };
}
