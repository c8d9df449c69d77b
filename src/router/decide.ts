/**
 * The decision: which endpoint gets a request, and why.
 *
 * A pure function of its input: it never awaits, reads no clock, changes nothing.
 */
import { assert } from "../core/assert.ts";
import type { EndpointId } from "../core/ids.ts";
import type { FleetView } from "../fleet/endpoint-view.ts";
import type { PrefixWork } from "../fleet/prefix-works.ts";
import type { RouterConfig } from "./config.ts";
import { CostTable, type CostTerms } from "./cost.ts";
import { decodeEndpoint } from "./decode-endpoint.ts";
import type { EndpointMatch } from "./endpoint-match.ts";
import { type KnownState, NOT_HEARD } from "./known-state.ts";
import type { PopularPrefix } from "./popularity.ts";
import { type CapState, PopularityCap } from "./popularity-cap.ts";

export interface DecisionInput {
  readonly fleet: FleetView;
  /** The gateway's restriction: "host:port" or "host" entries. Null: none. */
  readonly subset: readonly string[] | null;
  /** Endpoints that refused the request. */
  readonly excluded: ReadonlySet<EndpointId>;
  readonly matches: ReadonlyMap<EndpointId, EndpointMatch>;
  /** How well each endpoint is known; one without a state was not heard. */
  readonly states: Pick<ReadonlyMap<EndpointId, KnownState>, "get">;
  /** Tokens of the prompt, or an estimate where they are not known. */
  readonly inputTokens: number;
  /** Prompts of a batch; absent: one. */
  readonly prompts?: number;
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
 * - popularity-cap: the cheapest already had its share of a popular prefix: at another holder
 * - next-holder: its holders are too few, or full: where a new one costs least
 * - least-requests, round-robin: the configured policy for comparison
 */
export type ChoiceReason =
  | "cheapest"
  | "popularity-cap"
  | "next-holder"
  | "least-requests"
  | "round-robin";

export interface Candidate {
  readonly endpointId: EndpointId;
  readonly costSeconds: number;
  readonly terms: CostTerms;
  readonly match: EndpointMatch;
  /** How well it is known what the endpoint holds: that of its worst rank. */
  readonly known: KnownState;
  readonly reusedTokens: number;
  /** Own part of the work, seconds of a nominal endpoint. */
  readonly workSeconds: number;
  /** Learned prefill speed. */
  readonly speed: number;
  /** Age of the scraped signals, ms; null when there are none. */
  readonly signalAgeMs: number | null;
  /** What the endpoint has of the popular prefix, and whether the cap keeps it away; null: no such prefix. */
  readonly cap: CapState | null;
}

export interface Routed {
  readonly kind: "routed";
  readonly chosen: Candidate;
  /** Where it decodes, when `chosen` is a prefill endpoint; null: where it is prefilled. */
  readonly decodeEndpointId: EndpointId | null;
  readonly reason: ChoiceReason;
  /** The next best by cost; null with one candidate. */
  readonly runnerUp: Candidate | null;
  readonly candidates: Candidates;
  readonly popularPrefix: PopularPrefix | null;
  /** Tokens that the best holder in the pool could reuse: what was possible. */
  readonly possibleTokens: number;
  /** Mean time that the candidates' queues take, seconds. */
  readonly queueMeanSeconds: number;
  /** The shortest of them, seconds. */
  readonly queueLeastSeconds: number;
}

export interface Unrouted {
  readonly kind: "none";
  readonly reason: "no-ready-endpoint" | "subset-empty";
}

export type Decision = Routed | Unrouted;

/** Differences of cost below this are ties, seconds. */
const TIE_SECONDS = 1e-9;
/** What a request may cost more so that a popular prefix gets a holder that it needs, seconds. */
const DETOUR_SECONDS = 1;

export function decide(input: DecisionInput): Decision {
  const { fleet, config, inputTokens } = input;
  const decode = decodeEndpoint(
    fleet,
    (endpointId) => !input.excluded.has(endpointId) && isInSubset(endpointId, input.subset),
  );
  const places = candidatePlaces(input, { canSplit: decode !== null });
  if (places.kind === "none") return places;

  const { matches } = input;
  const cap = new PopularityCap(input, places.places.length, (endpointId) =>
    isAmong(places.places, fleet.positions.get(endpointId) ?? -1),
  );
  const surplus = (endpointId: EndpointId): number => cap.surplus(endpointId);
  const costs = new CostTable({
    ...{ fleet, candidates: places.places, matches, inputTokens, surplus, config },
    prompts: input.prompts ?? 1,
  });
  const candidates = new Candidates(input, costs, cap);
  const { row, reason } = choose(candidates, costs, input);
  const runnerUp = cheapestRow(costs, { skip: (other) => other === row, random: 0 });
  return {
    kind: "routed",
    chosen: candidates.at(row),
    decodeEndpointId: costs.endpoint(row)?.spec.role === "prefill" ? decode : null,
    reason,
    runnerUp: runnerUp === null ? null : candidates.at(runnerUp),
    candidates,
    popularPrefix: input.popularPrefix,
    possibleTokens: possibleTokens(matches, inputTokens),
    queueMeanSeconds: costs.queueMeanSeconds,
    queueLeastSeconds: costs.queueLeastSeconds,
  };
}

/** All candidates of one decision, in the fleet's order; each is made when it is asked for. */
export class Candidates {
  readonly #input: DecisionInput;
  readonly #costs: CostTable;
  readonly #cap: PopularityCap;

  constructor(input: DecisionInput, costs: CostTable, cap: PopularityCap) {
    this.#input = input;
    this.#costs = costs;
    this.#cap = cap;
  }

  get count(): number {
    return this.#costs.rows;
  }

  get needsHolder(): boolean {
    return this.#cap.needsHolder;
  }

  cap(row: number): CapState | null {
    const endpoint = this.#costs.endpoint(row);
    assert(endpoint !== undefined, "no candidate to choose from", { row });
    return this.#cap.at(endpoint.spec.id, this.#costs.workSeconds(row));
  }

  at(row: number): Candidate {
    const { fleet, states } = this.#input;
    const costs = this.#costs;
    const endpoint = costs.endpoint(row);
    assert(endpoint !== undefined, "no candidate to choose from", { row });
    const { spec, signals, load } = endpoint;
    return {
      endpointId: spec.id,
      costSeconds: costs.costSeconds(row),
      terms: costs.terms(row),
      match: costs.match(row),
      known: states.get(spec.id) ?? NOT_HEARD,
      reusedTokens: costs.reusedTokens(row),
      workSeconds: costs.workSeconds(row),
      speed: load.speed,
      signalAgeMs: signals === null ? null : Math.max(0, fleet.nowMs - signals.atMs),
      cap: this.cap(row),
    };
  }

  all(): Candidate[] {
    return Array.from({ length: this.count }, (_, row) => this.at(row));
  }

  /** The cheapest ones, cheapest first, and of the others those that could reuse most. */
  best(counts: { readonly cheapest: number; readonly deepest: number }): Candidate[] {
    const costs = this.#costs;
    const isCheaper = (a: number, b: number): boolean =>
      costs.costSeconds(a) < costs.costSeconds(b);
    const isDeeper = (a: number, b: number): boolean => {
      const more = costs.reusedTokens(a) - costs.reusedTokens(b);
      return more > 0 || (more === 0 && isCheaper(a, b));
    };
    const cheapest = this.#first(counts.cheapest, isCheaper, () => true);
    const deepest = this.#first(
      counts.deepest,
      isDeeper,
      (row) => costs.reusedTokens(row) > 0 && !cheapest.includes(row),
    );
    return [...cheapest, ...deepest].map((row) => this.at(row));
  }

  /** The first `count` rows in an order, of those taken: few, so that each is put into its place. */
  #first(
    count: number,
    isBefore: (a: number, b: number) => boolean,
    isTaken: (row: number) => boolean,
  ): number[] {
    const first: number[] = [];
    for (let row = 0; row < this.count; row += 1) {
      const last = first[count - 1];
      if (count === 0 || (last !== undefined && !isBefore(row, last)) || !isTaken(row)) continue;
      let place = Math.min(first.length, count - 1);
      while (place > 0 && isBefore(row, first[place - 1] ?? row)) {
        first[place] = first[place - 1] ?? row;
        place -= 1;
      }
      first[place] = row;
    }
    return first;
  }
}

/** A prefill endpoint is one only where a decode endpoint can go on. */
function candidatePlaces(
  { fleet, subset, excluded }: DecisionInput,
  { canSplit }: { readonly canSplit: boolean },
): Unrouted | { readonly kind: "some"; readonly places: Int32Array } {
  const { endpoints } = fleet;
  const places = new Int32Array(endpoints.length);
  let ready = 0;
  let count = 0;
  for (let place = 0; place < endpoints.length; place += 1) {
    const endpoint = endpoints[place];
    if (endpoint === undefined || !endpoint.isReady || endpoint.spec.role === "decode") continue;
    if (endpoint.spec.role === "prefill" && !canSplit) continue;
    if (excluded.size > 0 && excluded.has(endpoint.spec.id)) continue;
    ready += 1;
    if (!isInSubset(endpoint.spec.id, subset)) continue;
    places[count] = place;
    count += 1;
  }
  if (ready === 0) return { kind: "none", reason: "no-ready-endpoint" };
  if (count === 0) return { kind: "none", reason: "subset-empty" };
  return { kind: "some", places: places.subarray(0, count) };
}

/** Places come in the order of the fleet. */
function isAmong(places: Int32Array, wanted: number): boolean {
  let [from, to] = [0, places.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((places[middle] ?? 0) < wanted) from = middle + 1;
    else to = middle;
  }
  return places[from] === wanted;
}

/** Whether the gateway's hint names the endpoint: its address, or its host without the port. */
export function isInSubset(endpointId: EndpointId, subset: readonly string[] | null): boolean {
  if (subset === null) return true;
  const host = endpointId.slice(0, endpointId.lastIndexOf(":"));
  const bareHost = host.replace(/^\[|\]$/g, "");
  return subset.some((entry) => entry === endpointId || entry === host || entry === bareHost);
}

function choose(
  candidates: Candidates,
  costs: CostTable,
  { config, random, turn }: DecisionInput,
): { readonly row: number; readonly reason: ChoiceReason } {
  if (config.policy === "round-robin") return { row: turn % costs.rows, reason: "round-robin" };
  if (config.policy === "least-requests") {
    return { row: leastRequests(costs, random), reason: "least-requests" };
  }
  const best = cheapestRow(costs, { skip: none, random }) ?? 0;
  const cap = candidates.cap(best);
  if (cap === null) return { row: best, reason: "cheapest" };
  const next = cap.holder !== "none" && candidates.needsHolder ? nextHolder() : null;
  if (next !== null) return { row: next, reason: "next-holder" };
  const under = cap.isCapped ? underCap(candidates, costs, random) : null;
  return under ?? { row: best, reason: "cheapest" };

  /** A copy is computed once and used by all that follow: a bounded detour of one request is worth it. */
  function nextHolder(): number | null {
    const skip = (row: number): boolean => {
      const state = candidates.cap(row);
      return state === null || state.isCapped || state.holder !== "none";
    };
    const row = cheapestRow(costs, { skip, random });
    if (row === null) return null;
    return costs.costSeconds(row) - costs.costSeconds(best) <= DETOUR_SECONDS ? row : null;
  }
}

/** The cheapest endpoint that may have more of the popular prefix; null: none may. */
function underCap(
  candidates: Candidates,
  costs: CostTable,
  random: number,
): { readonly row: number; readonly reason: ChoiceReason } | null {
  const caps = Array.from({ length: costs.rows }, (_, row) => candidates.cap(row));
  const isCapped = (row: number): boolean => caps[row]?.isCapped === true;
  const isHolder = (row: number): boolean => caps[row]?.holder !== "none";
  if (!candidates.needsHolder) {
    const row = cheapestRow(costs, { skip: (row) => isCapped(row) || !isHolder(row), random });
    if (row !== null) return { row, reason: "popularity-cap" };
  }
  const row = cheapestRow(costs, { skip: isCapped, random });
  return row === null ? null : { row, reason: isHolder(row) ? "popularity-cap" : "next-holder" };
}

function leastRequests(costs: CostTable, random: number): number {
  const requests = Array.from({ length: costs.rows }, (_, row) => ({
    row,
    requests: costs.endpoint(row)?.load.requests ?? 0,
  }));
  const requestsMin = Math.min(...requests.map((each) => each.requests));
  const least = requests.filter((each) => each.requests === requestsMin);
  return least[Math.floor(random * least.length)]?.row ?? 0;
}

/** Null: all are skipped. Of equals, `random` takes one. */
function cheapestRow(
  costs: CostTable,
  { skip, random }: { readonly skip: (row: number) => boolean; readonly random: number },
): number | null {
  let costMin = Number.POSITIVE_INFINITY;
  let first = -1;
  for (let row = 0; row < costs.rows; row += 1) {
    const cost = costs.costSeconds(row);
    if (cost >= costMin || skip(row)) continue;
    costMin = cost;
    first = row;
  }
  if (first < 0) return null;
  const isTie = (row: number): boolean =>
    costs.costSeconds(row) <= costMin + TIE_SECONDS && !skip(row);
  let ties = 0;
  for (let row = 0; row < costs.rows; row += 1) if (isTie(row)) ties += 1;
  let before = Math.floor(random * ties);
  for (let row = 0; row < costs.rows; row += 1) {
    if (!isTie(row)) continue;
    if (before === 0) return row;
    before -= 1;
  }
  return first;
}

function none(): boolean {
  return false;
}

function possibleTokens(
  matches: ReadonlyMap<EndpointId, EndpointMatch>,
  inputTokens: number,
): number {
  let most = 0;
  for (const { tokensByTier } of matches.values()) {
    const { gpu, cpu, nvme, shared } = tokensByTier;
    most = Math.max(most, gpu + cpu + nvme + shared);
  }
  return Math.min(most, Math.max(0, inputTokens - 1));
}
