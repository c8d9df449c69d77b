/** What work costs on a nominal endpoint, of speed 1: the constants of the model that is served. */
import { loadSeconds } from "../tiers/load-cost.ts";
import type { RouterConfig } from "./config.ts";
import type { EndpointMatch } from "./endpoint-match.ts";

/** `P(h, n)`: seconds to prefill `tokens` behind `cachedTokens`, with the quadratic part. */
export function prefillSeconds(config: RouterConfig, cachedTokens: number, tokens: number): number {
  const pairs = tokens * (cachedTokens + tokens / 2);
  return tokens / config.prefillTokensPerSecond + config.attentionSecondsPerPair * pairs;
}

/** Constant part of a step, and what its decoding contexts add. Seconds. */
export function decodeStepSeconds(config: RouterConfig, contextTokens: number): number {
  return config.stepSeconds + config.decodeSecondsPerContextToken * contextTokens;
}

export interface OwnWork {
  /** Prefill and loads, seconds of a nominal endpoint. */
  readonly workSeconds: number;
  /** Tokens that need not be computed. */
  readonly reusedTokens: number;
}

/** The cheaper of computing what the GPU lacks and loading what lower tiers have. */
export function ownWork(match: EndpointMatch, inputTokens: number, config: RouterConfig): OwnWork {
  // The last token is always computed: its logits are the answer's first token.
  const reusableMax = Math.max(0, inputTokens - 1);
  const fromGpu = Math.min(match.gpuTokens, reusableMax);
  const gpuOnly = prefillSeconds(config, fromGpu, inputTokens - fromGpu);
  const { gpu, cpu, nvme, shared } = match.tokensByTier;
  const fromAll = Math.min(gpu + cpu + nvme + shared, reusableMax);
  if (fromAll <= fromGpu) return { workSeconds: gpuOnly, reusedTokens: fromGpu };
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
