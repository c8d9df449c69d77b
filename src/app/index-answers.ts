/** Answers what is asked of the index from outside as the decisions would see it. */
import type { Clock } from "../core/clock.ts";
import { blockKey, type EndpointId } from "../core/ids.ts";
import type { FleetView } from "../fleet/endpoint-view.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { HolderMatch, IndexReader, PrefixMatch } from "../indexer/block-index.ts";
import type { PromptReader } from "../prompt/prompt-reader.ts";
import type {
  BlockPlace,
  EndpointHolding,
  IndexQueries,
  MatchAnswer,
  PodState,
  PromptQuery,
  QueryStats,
} from "../query/index-queries.ts";
import type { SizedPrompt } from "../router/dispatcher.ts";
import { type EndpointMatch, endpointMatches } from "../router/endpoint-match.ts";
import { type KnownState, NO_EVENT_SOURCE, worstState } from "../router/known-state.ts";
import { TIERS } from "../tiers/tier.ts";
import { type MatchInput, matchKeys, matchPrompt, type PromptMatchDeps } from "./prompt-match.ts";
import { type Supply, supplyOf } from "./prompt-supply.ts";

export interface IndexAnswersDeps extends PromptMatchDeps {
  readonly index: IndexReader;
  readonly prompt: Pick<PromptReader, "keyed">;
  readonly fleet: Pick<Fleet, "view">;
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
    const { sized, supply } = this.#sized(query, { ...view, known });
    const matches = endpointMatches(view, sized);
    const endpoints = view.endpoints.flatMap(({ spec }) => {
      const match = matches.get(spec.id);
      if (match === undefined) return [];
      const state = known.states.get(spec.id) ?? NO_EVENT_SOURCE;
      const reachable = supply.reachableTokens(spec.id, spec.kvEvents?.ranks ?? 1);
      return [holdingOf(spec.id, { state, match, reachable })];
    });
    const deepest = endpoints.reduce((most, each) => Math.max(most, each.prefixTokens), 0);
    return {
      endpoints,
      best: endpoints.reduce<EndpointHolding | null>(better, null),
      promptTokens: promptTokensOf(query),
      sharedPrefixTokens: supply.sharedTokens,
      availableTokens: Math.max(supply.availableTokens, deepest),
    };
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
        const blockSizeTokens = cursor?.blockSizesTokens[0] ?? null;
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

  /** Matches as decisions have them, with what else there is at the same moment. */
  #sized(query: PromptQuery, input: MatchInput): { sized: readonly SizedPrompt[]; supply: Supply } {
    const { index, prompt } = this.#deps;
    const prefixes = new Map<BigUint64Array, PrefixMatch>();
    const match = (keys: BigUint64Array): HolderMatch[] => {
      const prefix = index.prefix(keys);
      prefixes.set(keys, prefix);
      return prefix.matches;
    };
    const deps = { ...this.#deps, index: { match } };
    const sized =
      query.kind === "tokens"
        ? matchPrompt(deps, prompt.keyed(query), input).sized
        : [matchKeys(deps, query, input)];
    const supplied = sized.flatMap(({ keys, blockSizeTokens }) => {
      const prefix = prefixes.get(keys);
      return prefix === undefined ? [] : [{ prefix, blockSizeTokens }];
    });
    return { sized, supply: supplyOf(supplied) };
  }
}

function holdingOf(
  endpointId: EndpointId,
  known: { readonly state: KnownState; readonly match: EndpointMatch; readonly reachable: number },
): EndpointHolding {
  const { gpuTokens, tokensByTier } = known.match;
  const prefixTokens = TIERS.reduce((sum, tier) => sum + tokensByTier[tier], 0);
  return {
    ...{ endpointId, state: known.state, gpuPrefixTokens: gpuTokens, prefixTokens, tokensByTier },
    // What is assumed, where no events are heard, is not in the index.
    reachableTokens: Math.max(known.reachable, prefixTokens),
  };
}

function better(best: EndpointHolding | null, each: EndpointHolding): EndpointHolding {
  if (best === null || each.reachableTokens > best.reachableTokens) return each;
  const isEqual = each.reachableTokens === best.reachableTokens;
  return isEqual && each.prefixTokens > best.prefixTokens ? each : best;
}

function promptTokensOf(query: PromptQuery): number {
  return query.kind === "tokens" ? query.tokens.length : query.keys.length * query.blockSizeTokens;
}
