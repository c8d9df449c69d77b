/**
 * Expected seconds to the first token at each endpoint, and what the request costs the others there.
 *
 * The form and the constants without a configuration key are those of a simulation study over
 * fourteen families of workloads (docs/policy.md); they were tuned on an 8B model's times. Numbers
 * stand in one array, so that a decision over a large fleet allocates once; what a person reads is
 * made from it on demand. Cost: about 0.1 us per endpoint.
 */
import type { EndpointId } from "../core/ids.ts";
import { coldness, kvTokens } from "../fleet/endpoint-load.ts";
import type { EndpointView, FleetView } from "../fleet/endpoint-view.ts";
import { peerWeight, secondsAhead } from "../fleet/peer-loads.ts";
import type { RouterConfig } from "./config.ts";
import { decodeStepSeconds, ownWork } from "./cost-model.ts";
import { type EndpointMatch, NO_MATCH } from "./endpoint-match.ts";

/** The terms of one endpoint's cost, seconds, each >= 0 and finite; the cost is their sum. */
export interface CostTerms {
  /** Work ahead of the request: own and other routers' dispatches without first token, and scraped. */
  readonly queue: number;
  /** Prefill of the uncached tokens, with the loading of blocks from lower tiers. */
  readonly prefill: number;
  /** What this prefill costs the requests behind it. */
  readonly externality: number;
  /** Decoding requests that share the steps. */
  readonly interference: number;
  /** Nearness of the KV pool to its limit. */
  readonly kvPressure: number;
  /** KV memory that the request takes from others, where the fleet runs short of it. */
  readonly kvMemory: number;
  /** Refused connections and broken answers of late. */
  readonly faults: number;
  /** Where a popular prefix would have a holder that its arrivals do not need. */
  readonly surplus: number;
  /** What the accelerator's time for the request costs, at the stated price and worth of a dollar. */
  readonly spend: number;
  /** Requests that already wait at an endpoint which has yet to answer its first ones. */
  readonly warmup: number;
}

/** What a decode step costs a prefill beside it, against one chunk's time. */
const SLOWDOWN = 3;
/** Queue above which an endpoint counts as behind the fleet: 1.5 x mean + 1 s. */
const BEHIND_FACTOR = 1.5;
const BEHIND_SECONDS = 1;
const BEHIND_WEIGHT = 2;
/** Externality: from 0.2 in an idle fleet, plus 2 per second of mean queue beyond 0.3 s, to 16. */
const EXTERNALITY_MIN = 0.2;
const EXTERNALITY_PER_SECOND = 2;
const EXTERNALITY_FREE_SECONDS = 0.3;
const EXTERNALITY_MAX = 16;
const EXTERNALITY_PER_WAITING = 0.15;
const INTERFERENCE_WEIGHT = 0.9;
/** Seconds that a wholly full KV pool costs beyond the knee, per unit of usage. */
const KV_PRESSURE_SECONDS = 10;
/** KV memory has a price from this mean usage of the fleet on, and its full one this much later. */
const KV_MEMORY_FROM = 0.6;
const KV_MEMORY_RANGE = 0.4;
const KV_MEMORY_MAX = 2;
/** Seconds that a whole pool costs at the full price. */
const KV_MEMORY_SECONDS = 300;
/** A scraped usage is of use this much longer than a scraped queue. */
const KV_USEFUL_FACTOR = 5;
/** Seconds that one refused connection or broken answer costs at once. */
const FAULT_SECONDS = 2;
/** Seconds by which each holder too many of a popular prefix is dearer than the one before it. */
const SURPLUS_SECONDS = 0.02;
/** Seconds that each request waiting at a new endpoint costs, where the fleet is warm. */
const WARMUP_SECONDS = 1;
/** Mean coldness above which the fleet or the router itself is new, and nothing is dearer for it. */
const WARMUP_COLD_MAX = 0.25;
const SECONDS_PER_HOUR = 3600;

/** Places of one endpoint's numbers: first the terms of the cost, then what they are made of. */
const AT = {
  ...{
    queue: 0,
    prefill: 1,
    externality: 2,
    interference: 3,
    kvPressure: 4,
    kvMemory: 5,
    faults: 6,
    surplus: 7,
    spend: 8,
    warmup: 9,
  },
  ...{ cost: 10, work: 11, reused: 12, waiting: 13, context: 14, decoding: 15, used: 16 },
  // Freshness of the scrape, and of its slower values.
  ...{ fresh: 17, lasting: 18 },
} as const;
const TERMS: number = AT.cost;
const ROW: number = AT.lasting + 1;

export interface CostInput {
  readonly fleet: FleetView;
  /** Places in the fleet of the endpoints that may be chosen. */
  readonly candidates: Int32Array;
  readonly matches: ReadonlyMap<EndpointId, EndpointMatch>;
  readonly inputTokens: number;
  /** See PromptSize. */
  readonly prompts: number;
  /** By how many it would be a holder too many of the prompt's popular prefix. */
  readonly surplus: (endpointId: EndpointId) => number;
  readonly config: RouterConfig;
}

/** Costs of all candidates, in their order; `row` counts candidates from 0. */
export class CostTable {
  readonly #input: CostInput;
  readonly #numbers: Float64Array;
  /** Mean over the candidates of the time that their queues take, seconds. */
  #queueMeanSeconds = 0;
  /** The shortest of them, seconds. */
  #queueLeastSeconds = 0;
  /** Mean over the candidates, 0 to 1. */
  #coldness = 0;
  /** Price of KV memory, 0 to KV_MEMORY_MAX. */
  #memoryPrice = 0;

  constructor(input: CostInput) {
    this.#input = input;
    this.#numbers = new Float64Array(ROW * input.candidates.length);
    this.#rateFleet();
    this.#rateRequest();
  }

  get rows(): number {
    return this.#input.candidates.length;
  }

  get queueMeanSeconds(): number {
    return this.#queueMeanSeconds;
  }

  get queueLeastSeconds(): number {
    return this.#queueLeastSeconds;
  }

  endpoint(row: number): EndpointView | undefined {
    return this.#input.fleet.endpoints[this.#input.candidates[row] ?? -1];
  }

  costSeconds(row: number): number {
    return this.#numbers[ROW * row + AT.cost] ?? Number.POSITIVE_INFINITY;
  }

  /** Own part of the work at a nominal endpoint: prefill and loads, before any weight. Seconds. */
  workSeconds(row: number): number {
    return this.#numbers[ROW * row + AT.work] ?? 0;
  }

  /** Tokens that need not be computed, in the cheaper of both ways. */
  reusedTokens(row: number): number {
    return this.#numbers[ROW * row + AT.reused] ?? 0;
  }

  terms(row: number): CostTerms {
    const term = (place: number): number => this.#numbers[ROW * row + place] ?? 0;
    return {
      queue: term(AT.queue),
      prefill: term(AT.prefill),
      externality: term(AT.externality),
      interference: term(AT.interference),
      kvPressure: term(AT.kvPressure),
      kvMemory: term(AT.kvMemory),
      faults: term(AT.faults),
      surplus: term(AT.surplus),
      spend: term(AT.spend),
      warmup: term(AT.warmup),
    };
  }

  match(row: number): EndpointMatch {
    const endpoint = this.endpoint(row);
    return (endpoint && this.#input.matches.get(endpoint.spec.id)) ?? NO_MATCH;
  }

  /** Queues and memory, which the request does not change. */
  #rateFleet(): void {
    const { fleet, candidates } = this.#input;
    const numbers = this.#numbers;
    let queueSum = 0;
    let queueLeast = Number.POSITIVE_INFINITY;
    let usageSum = 0;
    let coldnessSum = 0;
    for (let row = 0; row < candidates.length; row += 1) {
      const endpoint = fleet.endpoints[candidates[row] ?? -1];
      if (endpoint === undefined) continue;
      const at = ROW * row;
      this.#addFreshness(at, endpoint);
      this.#addOwn(at, endpoint);
      this.#addPeers(at, endpoint);
      this.#addScraped(at, endpoint);
      const queue = (numbers[at + AT.queue] ?? 0) / endpoint.load.speed;
      queueSum += queue;
      queueLeast = Math.min(queueLeast, queue);
      coldnessSum += coldness(endpoint.load);
      if (endpoint.poolTokens > 0) {
        const scraped = (numbers[at + AT.lasting] ?? 0) * (endpoint.signals?.value.kvUsage ?? 0);
        usageSum += Math.max((numbers[at + AT.used] ?? 0) / endpoint.poolTokens, scraped);
      }
    }
    const count = Math.max(1, candidates.length);
    this.#queueMeanSeconds = queueSum / count;
    this.#queueLeastSeconds = Number.isFinite(queueLeast) ? queueLeast : 0;
    this.#coldness = coldnessSum / count;
    const price = (usageSum / count - KV_MEMORY_FROM) / KV_MEMORY_RANGE;
    this.#memoryPrice = Math.min(KV_MEMORY_MAX, Math.max(0, price));
  }

  /** 1 for a fresh scrape, 1/e at its useful age, towards 0; ages below zero count as fresh. */
  #addFreshness(at: number, { signals }: EndpointView): void {
    if (signals === null) return;
    const { config, fleet } = this.#input;
    const age = Math.max(0, fleet.nowMs - signals.atMs) / config.signalUsefulMs;
    this.#numbers[at + AT.fresh] = Math.exp(-age);
    this.#numbers[at + AT.lasting] = Math.exp(-age / KV_USEFUL_FACTOR);
  }

  #addOwn(at: number, { load, peers }: EndpointView): void {
    const { fleet } = this.#input;
    const numbers = this.#numbers;
    numbers[at + AT.queue] = secondsAhead(load, peers, fleet.nowMs);
    numbers[at + AT.waiting] = load.waiting;
    numbers[at + AT.decoding] = load.decoding;
    numbers[at + AT.context] = load.contextTokens;
    numbers[at + AT.used] = kvTokens(load);
  }

  #addPeers(at: number, { peers, signals }: EndpointView): void {
    if (peers.length === 0) return;
    const { nowMs } = this.#input.fleet;
    const numbers = this.#numbers;
    // Peers' tokens overlap with ours where prompts share a prefix; a fresh scrape counts them once.
    const isScraped = signals !== null && signals.value.kvUsage !== null;
    const unseen = isScraped ? 1 - (numbers[at + AT.lasting] ?? 0) : 1;
    for (const peer of peers) {
      const weight = peerWeight(peer, nowMs);
      numbers[at + AT.waiting] = (numbers[at + AT.waiting] ?? 0) + weight * peer.waiting;
      numbers[at + AT.decoding] = (numbers[at + AT.decoding] ?? 0) + weight * peer.decoding;
      numbers[at + AT.context] = (numbers[at + AT.context] ?? 0) + weight * peer.contextTokens;
      numbers[at + AT.used] = (numbers[at + AT.used] ?? 0) + unseen * weight * peer.kvTokens;
    }
  }

  /** What waits there without any router's knowledge, as long as the sample is fresh. */
  #addScraped(at: number, { signals, pendingAtSignals }: EndpointView): void {
    const waiting = signals?.value.waiting ?? 0;
    if (signals === null || waiting === 0) return;
    const { workMeanSeconds } = this.#input.fleet;
    const numbers = this.#numbers;
    const unknown = Math.max(0, waiting * workMeanSeconds - pendingAtSignals);
    numbers[at + AT.queue] =
      (numbers[at + AT.queue] ?? 0) + (numbers[at + AT.fresh] ?? 0) * unknown;
  }

  #rateRequest(): void {
    const { candidates, fleet, matches, surplus, config } = this.#input;
    const numbers = this.#numbers;
    const nothing = ownWork(NO_MATCH, this.#input, config);
    const externality =
      EXTERNALITY_MIN +
      Math.min(
        EXTERNALITY_MAX,
        EXTERNALITY_PER_SECOND * Math.max(0, this.#queueMeanSeconds - EXTERNALITY_FREE_SECONDS),
      );
    const secondsPerDollarHour = config.secondsPerDollar / SECONDS_PER_HOUR;
    const chunkSeconds = config.chunkTokens / config.prefillTokensPerSecond;
    for (let row = 0; row < candidates.length; row += 1) {
      const endpoint = fleet.endpoints[candidates[row] ?? -1];
      if (endpoint === undefined) continue;
      const { speed } = endpoint.load;
      const match = matches.get(endpoint.spec.id);
      const own = match === undefined ? nothing : ownWork(match, this.#input, config);
      const at = ROW * row;
      const waiting = numbers[at + AT.waiting] ?? 0;
      const step = decodeStepSeconds(config, numbers[at + AT.context] ?? 0);
      const slow = 1 + (SLOWDOWN * step) / chunkSeconds;
      const queue = ((numbers[at + AT.queue] ?? 0) * slow) / speed;
      const behind = Math.max(0, queue - BEHIND_FACTOR * this.#queueMeanSeconds - BEHIND_SECONDS);
      const prefill = (own.workSeconds * slow) / speed;
      numbers[at + AT.queue] = queue + BEHIND_WEIGHT * behind;
      numbers[at + AT.prefill] = prefill;
      numbers[at + AT.externality] =
        prefill * externality * (1 + EXTERNALITY_PER_WAITING * waiting);
      numbers[at + AT.interference] =
        (INTERFERENCE_WEIGHT * step * Math.sqrt(numbers[at + AT.decoding] ?? 0)) / speed;
      this.#addMemory(at, endpoint, match?.inflightTokens ?? 0);
      numbers[at + AT.faults] = FAULT_SECONDS * endpoint.faults.weight(fleet.nowMs);
      numbers[at + AT.surplus] = SURPLUS_SECONDS * surplus(endpoint.spec.id);
      const { accelerator } = endpoint.spec;
      if (accelerator !== null) {
        const worth = secondsPerDollarHour * accelerator.dollarsPerHour;
        numbers[at + AT.spend] = (worth * own.workSeconds) / speed;
      }
      const isFleetNew = this.#coldness > WARMUP_COLD_MAX;
      const colder = isFleetNew ? 0 : Math.max(0, coldness(endpoint.load) - this.#coldness);
      numbers[at + AT.warmup] = WARMUP_SECONDS * colder * waiting;
      let cost = 0;
      for (let term = at; term < at + TERMS; term += 1) cost += numbers[term] ?? 0;
      numbers[at + AT.cost] = cost;
      numbers[at + AT.work] = own.workSeconds;
      numbers[at + AT.reused] = own.reusedTokens;
    }
  }

  #addMemory(at: number, { poolTokens, signals }: EndpointView, inflightTokens: number): void {
    if (poolTokens === 0) return;
    const { fleet, inputTokens, config } = this.#input;
    const numbers = this.#numbers;
    const addedTokens = Math.max(0, inputTokens - inflightTokens) + fleet.outputMeanTokens;
    const added = addedTokens / poolTokens;
    const own = (numbers[at + AT.used] ?? 0) / poolTokens + added;
    const usage = Math.max(
      own,
      (numbers[at + AT.fresh] ?? 0) * ((signals?.value.kvUsage ?? 0) + added),
    );
    const knee = config.kvUsageKnee;
    numbers[at + AT.kvPressure] =
      KV_PRESSURE_SECONDS * Math.min(1 - knee, Math.max(0, usage - knee));
    numbers[at + AT.kvMemory] = KV_MEMORY_SECONDS * this.#memoryPrice * added;
  }
}
