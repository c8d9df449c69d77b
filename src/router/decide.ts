/**
 * The decision: which endpoint gets a request, and why.
 *
 * A pure function of its input: it never awaits, reads no clock, changes nothing.
 */
import { assert } from "../core/assert.ts";
import type { EndpointId } from "../core/ids.ts";
import type { EndpointView, FleetView } from "../fleet/fleet.ts";
import type { PrefixWork } from "../fleet/ledger.ts";
import type { RouterConfig } from "./config.ts";
import { type CostTerms, type EndpointMatch, endpointCosts, NO_MATCH } from "./cost.ts";
import { type KnownState, NOT_HEARD } from "./known-state.ts";
import type { PopularPrefix } from "./popularity.ts";

export interface DecisionInput {
  readonly fleet: FleetView;
  /** The gateway's restriction: "host:port" or "host" entries. Null: none. */
  readonly subset: readonly string[] | null;
  readonly matches: ReadonlyMap<EndpointId, EndpointMatch>;
  /** How well each endpoint is known; one without a state was not heard. */
  readonly states: ReadonlyMap<EndpointId, KnownState>;
  /** Tokens of the prompt, or an estimate where they are not known. */
  readonly inputTokens: number;
  readonly popularPrefix: PopularPrefix | null;
  /** Waiting work of the popular prefix by endpoint. */
  readonly prefixWork: ReadonlyMap<EndpointId, PrefixWork>;
  readonly config: RouterConfig;
  /** Uniform in [0, 1): breaks ties. */
  readonly random: number;
  /** Counts decisions: the turn of the round-robin policy. */
  readonly turn: number;
}

/**
 * - cheapest: lowest cost in seconds
 * - popularity-cap: the cheapest already had its share of a popular prefix
 * - least-requests, round-robin: the configured policy for comparison
 */
export type ChoiceReason = "cheapest" | "popularity-cap" | "least-requests" | "round-robin";

export interface Candidate {
  readonly endpointId: EndpointId;
  readonly costSeconds: number;
  readonly terms: CostTerms;
  readonly match: EndpointMatch;
  /** How well it is known what the endpoint holds: that of its worst rank. */
  readonly known: KnownState;
  readonly reusedTokens: number;
  readonly workSeconds: number;
  /** Age of the scraped signals, ms; null when there are none. */
  readonly signalAgeMs: number | null;
  /** True when the popularity cap keeps the request away from here. */
  readonly isCapped: boolean;
}

export type Decision =
  | {
      readonly kind: "routed";
      readonly chosen: Candidate;
      readonly reason: ChoiceReason;
      /** The next best by the same policy; null with one candidate. */
      readonly runnerUp: Candidate | null;
      /** All candidates in the fleet's order. */
      readonly candidates: readonly Candidate[];
      readonly popularPrefix: PopularPrefix | null;
      /** Tokens that the best holder in the pool could reuse: what was possible. */
      readonly possibleTokens: number;
    }
  | { readonly kind: "none"; readonly reason: "no-ready-endpoint" | "subset-empty" };

/** Differences of cost below this are ties, seconds. */
const TIE_SECONDS = 1e-9;

export function decide(input: DecisionInput): Decision {
  const ready = input.fleet.endpoints.filter(({ isReady }) => isReady);
  if (ready.length === 0) return { kind: "none", reason: "no-ready-endpoint" };
  const allowed = ready.filter(({ spec }) => isInSubset(spec.id, input.subset));
  if (allowed.length === 0) return { kind: "none", reason: "subset-empty" };

  const candidates = rate(allowed, input);
  const { chosen, reason } = choose(candidates, allowed, input);
  const others = candidates.filter((candidate) => candidate !== chosen);
  const possible = [...input.matches.values()].map(({ tokensByTier }) => totalTokens(tokensByTier));
  return {
    kind: "routed",
    chosen,
    reason,
    runnerUp: others.length === 0 ? null : cheapest(others, 0),
    candidates,
    popularPrefix: input.popularPrefix,
    possibleTokens: Math.min(Math.max(0, ...possible), Math.max(0, input.inputTokens - 1)),
  };
}

/** Whether the gateway's hint names the endpoint: its address, or its host without the port. */
function isInSubset(endpointId: EndpointId, subset: readonly string[] | null): boolean {
  if (subset === null) return true;
  const host = endpointId.slice(0, endpointId.lastIndexOf(":"));
  const bareHost = host.replace(/^\[|\]$/g, "");
  return subset.some((entry) => entry === endpointId || entry === host || entry === bareHost);
}

function rate(allowed: readonly EndpointView[], input: DecisionInput): Candidate[] {
  const { fleet, inputTokens, config } = input;
  const matches = allowed.map(({ spec }) => input.matches.get(spec.id) ?? NO_MATCH);
  const costs = endpointCosts({
    candidates: allowed,
    matches,
    inputTokens,
    config,
    nowMs: fleet.nowMs,
  });
  const isCapped = popularityCap(input, allowed.length);
  return allowed.flatMap((endpoint, position) => {
    const cost = costs[position];
    if (cost === undefined) return [];
    const { spec, signals } = endpoint;
    return [
      {
        endpointId: spec.id,
        ...cost,
        match: matches[position] ?? NO_MATCH,
        known: input.states.get(spec.id) ?? NOT_HEARD,
        signalAgeMs: signals === null ? null : Math.max(0, fleet.nowMs - signals.atMs),
        isCapped: isCapped(spec.id, cost.workSeconds),
      },
    ];
  });
}

/**
 * The cap: a popular prefix's outstanding work at one endpoint, this request included, stays within
 * (1 + slack) x an equal share among the holders its arrivals need; a little work is always allowed.
 */
function popularityCap(
  { popularPrefix, prefixWork, config }: DecisionInput,
  candidates: number,
): (endpointId: EndpointId, workSeconds: number) => boolean {
  if (popularPrefix === null) return () => false;
  const { slack, floorSeconds } = config.popularity;
  const holders = Math.min(popularPrefix.holdersNeeded, candidates);
  const outstanding = [...prefixWork.values()].reduce((sum, work) => sum + work.workSeconds, 0);
  return (endpointId, workSeconds) => {
    const here = prefixWork.get(endpointId)?.workSeconds ?? 0;
    const share = (outstanding + workSeconds) / holders;
    return here > 0 && here + workSeconds > Math.max(floorSeconds, (1 + slack) * share);
  };
}

function choose(
  candidates: readonly Candidate[],
  endpoints: readonly EndpointView[],
  { config, random, turn }: DecisionInput,
): { chosen: Candidate; reason: ChoiceReason } {
  if (config.policy === "round-robin") {
    return { chosen: at(candidates, turn % candidates.length), reason: "round-robin" };
  }
  if (config.policy === "least-requests") {
    const requestsMin = Math.min(...endpoints.map(({ load }) => load.requests));
    const least = candidates.filter((_, i) => endpoints[i]?.load.requests === requestsMin);
    return { chosen: at(least, Math.floor(random * least.length)), reason: "least-requests" };
  }
  const best = cheapest(candidates, random);
  const uncapped = candidates.filter(({ isCapped }) => !isCapped);
  if (!best.isCapped || uncapped.length === 0) return { chosen: best, reason: "cheapest" };
  return { chosen: cheapest(uncapped, random), reason: "popularity-cap" };
}

function cheapest(candidates: readonly Candidate[], random: number): Candidate {
  const costMin = Math.min(...candidates.map(({ costSeconds }) => costSeconds));
  const ties = candidates.filter(({ costSeconds }) => costSeconds <= costMin + TIE_SECONDS);
  return at(ties, Math.floor(random * ties.length));
}

function at(candidates: readonly Candidate[], position: number): Candidate {
  const candidate = candidates[position];
  assert(candidate !== undefined, "no candidate to choose from", { position });
  return candidate;
}

function totalTokens(tokensByTier: EndpointMatch["tokensByTier"]): number {
  const { gpu, cpu, nvme, shared } = tokensByTier;
  return gpu + cpu + nvme + shared;
}
