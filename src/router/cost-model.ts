/** What work costs on a nominal endpoint, of speed 1: the constants of the model that is served. */
import { loadSeconds } from "../tiers/load-cost.ts";
import type { RouterConfig } from "./config.ts";
import type { EndpointMatch } from "./endpoint-match.ts";

/** What is to be computed. */
export interface PromptSize {
  /** Of all its prompts. */
  readonly inputTokens: number;
  /** At least 1; more in a batch, of equal size as far as is known. */
  readonly prompts: number;
}

/** `P(h, n)`: seconds to prefill `tokens` behind `cachedTokens`, with the quadratic part. */
function prefillSeconds(
  config: RouterConfig,
  { cachedTokens, tokens, prompts }: { cachedTokens: number; tokens: number; prompts: number },
): number {
  // Prompts of a batch attend to nothing of each other.
  const pairs = (tokens * (cachedTokens + tokens / 2)) / prompts;
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
export function ownWork(
  match: EndpointMatch,
  { inputTokens, prompts }: PromptSize,
  config: RouterConfig,
): OwnWork {
  const prefillBehind = (cachedTokens: number): number =>
    prefillSeconds(config, { cachedTokens, tokens: inputTokens - cachedTokens, prompts });
  // The last token is always computed: its logits are the answer's first token.
  const reusableMax = Math.max(0, inputTokens - 1);
  const fromGpu = Math.min(match.gpuTokens, reusableMax);
  const gpuOnly = prefillBehind(fromGpu);
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
  const withLoads = prefillBehind(fromAll) + loads;
  return withLoads < gpuOnly
    ? { workSeconds: withLoads, reusedTokens: fromAll }
    : { workSeconds: gpuOnly, reusedTokens: fromGpu };
}
