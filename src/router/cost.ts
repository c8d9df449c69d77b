/**
 * Expected seconds to the first token at each endpoint, and what the request costs the others there.
 *
 * The form and the constants without a configuration key are those of a simulation study over
 * fourteen families of workloads (docs/policy.md); they were tuned on an 8B model's times.
 * Cost: about 1 us per endpoint.
 */
import type { EndpointView } from "../fleet/fleet.ts";
import type { Aged, EngineSignals } from "../fleet/signals.ts";
import { loadSeconds } from "../tiers/load-cost.ts";
import type { Tier } from "../tiers/tier.ts";
import type { RouterConfig } from "./config.ts";

/** Leading tokens of a prompt that an endpoint holds. */
export interface EndpointMatch {
  /** Leading tokens in the GPU tier. */
  readonly gpuTokens: number;
  /** Leading tokens in any tier, each under its fastest. */
  readonly tokensByTier: Readonly<Record<Tier, number>>;
}

export const NO_MATCH: EndpointMatch = {
  gpuTokens: 0,
  tokensByTier: { gpu: 0, cpu: 0, nvme: 0, shared: 0 },
};

/** The terms of one endpoint's cost, seconds, each >= 0 and finite; the cost is their sum. */
export interface CostTerms {
  /** Work ahead of the request: own dispatches without first token, others' as scraped. */
  readonly queue: number;
  /** Prefill of the uncached tokens, with the loading of blocks from lower tiers. */
  readonly prefill: number;
  /** What this prefill costs the requests behind it. */
  readonly externality: number;
  /** Decoding requests that share the steps. */
  readonly interference: number;
  /** Nearness of the KV pool to its limit. */
  readonly kvPressure: number;
}

export interface EndpointCost {
  readonly terms: CostTerms;
  readonly costSeconds: number;
  /** Own part of the work: prefill and loads, before any weight. */
  readonly workSeconds: number;
  /** Tokens that need not be computed, in the cheaper of both ways. */
  readonly reusedTokens: number;
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

/** `P(h, n)`: seconds to prefill `tokens` behind `cachedTokens`, with the quadratic part. */
function prefillSeconds(config: RouterConfig, cachedTokens: number, tokens: number): number {
  const pairs = tokens * (cachedTokens + tokens / 2);
  return tokens / config.prefillTokensPerSecond + config.attentionSecondsPerPair * pairs;
}

/** 1 for a fresh signal, 1/e at the useful age, towards 0; ages below zero count as fresh. */
function freshness(config: RouterConfig, signals: Aged<unknown>, nowMs: number): number {
  return Math.exp(-Math.max(0, nowMs - signals.atMs) / config.signalUsefulMs);
}

/** Costs of all candidates; they depend on each other through the fleet's mean queue. */
export function endpointCosts(input: {
  readonly candidates: readonly EndpointView[];
  readonly matches: readonly EndpointMatch[];
  readonly inputTokens: number;
  readonly config: RouterConfig;
  readonly nowMs: number;
}): EndpointCost[] {
  const { candidates, matches, inputTokens, config, nowMs } = input;
  const queues = candidates.map((candidate) =>
    queueSeconds(candidate, { config, nowMs, inputTokens }),
  );
  const queueMean = queues.reduce((sum, queue) => sum + queue, 0) / Math.max(1, queues.length);
  const externality =
    EXTERNALITY_MIN +
    Math.min(
      EXTERNALITY_MAX,
      EXTERNALITY_PER_SECOND * Math.max(0, queueMean - EXTERNALITY_FREE_SECONDS),
    );
  return candidates.map((candidate, position) => {
    const { load, signals } = candidate;
    const { workSeconds, reusedTokens } = ownWork(
      matches[position] ?? NO_MATCH,
      inputTokens,
      config,
    );
    const step = config.stepSeconds + config.decodeSecondsPerContextToken * load.contextTokens;
    const chunkSeconds = config.chunkTokens / config.prefillTokensPerSecond;
    const slowdown = 1 + (load.decoding > 0 ? (SLOWDOWN * step) / chunkSeconds : 0);
    const queue = (queues[position] ?? 0) * slowdown;
    const behind = Math.max(0, queue - BEHIND_FACTOR * queueMean - BEHIND_SECONDS);
    const terms: CostTerms = {
      queue: queue + BEHIND_WEIGHT * behind,
      prefill: workSeconds * slowdown,
      externality:
        workSeconds * slowdown * externality * (1 + EXTERNALITY_PER_WAITING * load.waiting),
      interference: INTERFERENCE_WEIGHT * step * Math.sqrt(load.decoding),
      kvPressure: kvPressure(candidate, {
        addedTokens: inputTokens - reusedTokens,
        kvFreshness: signals === null ? 0 : freshness(config, signals, nowMs),
        knee: config.kvUsageKnee,
      }),
    };
    const costSeconds = Object.values(terms).reduce((sum: number, term: number) => sum + term, 0);
    return { terms, costSeconds, workSeconds, reusedTokens };
  });
}

/** The cheaper of computing what the GPU lacks and loading what lower tiers have. */
function ownWork(
  match: EndpointMatch,
  inputTokens: number,
  config: RouterConfig,
): { workSeconds: number; reusedTokens: number } {
  // The last token is always computed: its logits are the answer's first token.
  const reusableMax = Math.max(0, inputTokens - 1);
  const fromGpu = Math.min(match.gpuTokens, reusableMax);
  const gpuOnly = prefillSeconds(config, fromGpu, inputTokens - fromGpu);
  const { gpu, cpu, nvme, shared } = match.tokensByTier;
  const fromAll = Math.min(gpu + cpu + nvme + shared, reusableMax);
  if (fromAll === fromGpu) return { workSeconds: gpuOnly, reusedTokens: fromGpu };
  const cost = {
    kvBytesPerToken: config.kvBytesPerToken,
    bytesPerSecond: {
      cpu: config.cpuBytesPerSecond,
      nvme: config.nvmeBytesPerSecond,
      shared: config.sharedBytesPerSecond,
    },
  };
  const loads =
    loadSeconds(cost, "cpu", cpu) +
    loadSeconds(cost, "nvme", nvme) +
    loadSeconds(cost, "shared", shared);
  const withLoads = prefillSeconds(config, fromAll, inputTokens - fromAll) + loads;
  return withLoads < gpuOnly
    ? { workSeconds: withLoads, reusedTokens: fromAll }
    : { workSeconds: gpuOnly, reusedTokens: fromGpu };
}

function queueSeconds(
  { load, signals }: EndpointView,
  context: { readonly config: RouterConfig; readonly nowMs: number; readonly inputTokens: number },
): number {
  const { config, nowMs, inputTokens } = context;
  const headSeconds = load.headSinceMs === null ? 0 : Math.max(0, nowMs - load.headSinceMs) / 1000;
  const own = Math.max(0, load.pendingWorkSeconds - headSeconds);
  if (signals === null) return own;
  return own + othersSeconds(signals, { config, nowMs, waitingOwn: load.waiting, inputTokens });
}

/** Requests that wait there without being ours, at this request's own price. */
function othersSeconds(
  signals: Aged<EngineSignals>,
  context: {
    readonly config: RouterConfig;
    readonly nowMs: number;
    readonly waitingOwn: number;
    readonly inputTokens: number;
  },
): number {
  const { config, nowMs, waitingOwn, inputTokens } = context;
  const others = Math.max(0, (signals.value.waiting ?? 0) - waitingOwn);
  return others * prefillSeconds(config, 0, inputTokens) * freshness(config, signals, nowMs);
}

function kvPressure(
  { load, signals }: EndpointView,
  context: { readonly addedTokens: number; readonly kvFreshness: number; readonly knee: number },
): number {
  const { addedTokens, kvFreshness, knee } = context;
  const { gpuBlocks, blockSizeTokens, kvUsage } = signals?.value ?? {};
  if (!gpuBlocks || !blockSizeTokens) return 0;
  const poolTokens = gpuBlocks * blockSizeTokens;
  const own = (load.uncachedTokens + addedTokens) / poolTokens;
  const scraped = kvFreshness * ((kvUsage ?? 0) + addedTokens / poolTokens);
  return KV_PRESSURE_SECONDS * Math.min(1 - knee, Math.max(0, Math.max(own, scraped) - knee));
}
