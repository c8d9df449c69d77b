/** Answers what is asked of the index from outside as the decisions would see it. */
import type { Clock } from "../core/clock.ts";
import { blockKey, type EndpointId } from "../core/ids.ts";
import type { Fleet, FleetView } from "../fleet/fleet.ts";
import type {
  BlockPlace,
  EndpointHolding,
  IndexQueries,
  MatchAnswer,
  PodState,
  PromptQuery,
  QueryStats,
} from "../query/index-queries.ts";

import {
  type EndpointMatch,
  endpointMatches,
  type SizedMatches,
} from "../router/endpoint-match.ts";
import { type KnownState, NO_EVENT_SOURCE, worstState } from "../router/known-state.ts";
import { TIERS } from "../tiers/tier.ts";
import { matchKeys, matchPrompt, type PromptMatchDeps } from "./prompt-match.ts";

export interface IndexAnswersDeps extends PromptMatchDeps {
  readonly fleet: Fleet;
  readonly clock: Clock;
}

export class IndexAnswers implements IndexQueries {
  readonly #deps: IndexAnswersDeps;

  constructor(deps: IndexAnswersDeps) {
    this.#deps = deps;
  }

  match(query: PromptQuery): MatchAnswer {
    const view = this.#view();
    const known = this.#deps.knowledge.known(view.endpoints, view.nowMs);
    const matches = endpointMatches(view, this.#sized(query, { ...view, known }));
    const endpoints = view.endpoints.flatMap(({ spec }) => {
      const match = matches.get(spec.id);
      const state = known.states.get(spec.id) ?? NO_EVENT_SOURCE;
      return match === undefined ? [] : [holdingOf(spec.id, state, match)];
    });
    const best = endpoints.reduce<EndpointHolding | null>(
      (deepest, each) => (each.prefixTokens > (deepest?.prefixTokens ?? 0) ? each : deepest),
      null,
    );
    return { endpoints, best, promptTokens: promptTokensOf(query) };
  }

  residency(key: bigint): readonly BlockPlace[] {
    return this.#deps.index.residency(blockKey(key));
  }

  pods(): readonly PodState[] {
    const { knowledge, holders } = this.#deps;
    const { endpoints, nowMs } = this.#view();
    return endpoints.map(({ spec, readyReason }) => {
      const states = knowledge.ranksOf(spec, nowMs);
      const ranks = states.map(({ state, reason }, rank) => {
        const cursor = holders.cursorOf({ endpointId: spec.id, rank });
        const blockSizeTokens = cursor?.blockSizeTokens ?? null;
        return { rank, state: { state, reason }, blockSizeTokens };
      });
      const { id: endpointId, name } = spec;
      return { endpointId, name, ready: readyReason, state: worstState(states), ranks };
    });
  }

  stats(): QueryStats {
    const { index, holders } = this.#deps;
    const endpointsByState = { EXACT: 0, DEGRADED: 0, FALLBACK: 0 };
    for (const { state } of this.pods()) endpointsByState[state.state] += 1;
    const blockSizesTokens = [...holders.blockSizes()].sort((a, b) => a - b);
    return { ...index.stats(), endpointsByState, blockSizesTokens };
  }

  #view(): FleetView {
    const { fleet, clock } = this.#deps;
    return fleet.view(clock.nowMs());
  }

  #sized(query: PromptQuery, input: Parameters<typeof matchPrompt>[2]): readonly SizedMatches[] {
    if (query.kind === "tokens") return matchPrompt(this.#deps, query, input).sized;
    return [matchKeys(this.#deps, query, input)];
  }
}

function holdingOf(
  endpointId: EndpointId,
  state: KnownState,
  { gpuTokens, tokensByTier }: EndpointMatch,
): EndpointHolding {
  const prefixTokens = TIERS.reduce((sum, tier) => sum + tokensByTier[tier], 0);
  return { endpointId, state, gpuPrefixTokens: gpuTokens, prefixTokens, tokensByTier };
}

function promptTokensOf(query: PromptQuery): number {
  return query.kind === "tokens" ? query.tokens.length : query.keys.length * query.blockSizeTokens;
}
