/** The tour's stated assumptions: the simulated GPU, its KV memory, and the load that is offered. */
import type { LabEngineOptions } from "../engine/engine-options.ts";
import type { TraceLimits } from "../workload/trace-work.ts";

export interface TourOptions {
  /** Length of a phase's arrivals, s. */
  readonly seconds: number;
  readonly engines: number;
  readonly seed: number;
  /** Mooncake-format file; null: generated conversations. */
  readonly tracePath: string | null;
  /** True: everything runs on after the comparison, until it is interrupted. */
  readonly isKept: boolean;
  /** host:port of Envoy. */
  readonly listen: string;
  /** False: not even when the program is there. */
  readonly isNatsWanted: boolean;
  readonly isEnvoyWanted: boolean;
}

export const PREFILL_TOKENS_PER_SECOND = 10_000;

/**
 * Slower than a real GPU on purpose: the simulated GPUs shall be the bottleneck, on a machine with
 * two cores too. Steps of 512 prompt tokens keep decoding requests moving.
 */
export const TOUR_ENGINE = {
  model: "lab-8b",
  topic: "kv-events",
  blockSizeTokens: 16,
  // 98,288 tokens: less than the work's working set, so that what is not used again is evicted.
  gpuBlocks: 6144,
  stepBaseSeconds: 0.008,
  prefillSecondsPerToken: 1 / PREFILL_TOKENS_PER_SECOND,
  attnSecondsPerPair: 3.4e-9,
  decodeSecondsPerContextToken: 3.9e-8,
  chunkTokens: 512,
} as const satisfies Partial<LabEngineOptions>;

/** Tokens that one engine's KV memory holds; one block is never used. */
export const KV_TOKENS = (TOUR_ENGINE.gpuBlocks - 1) * TOUR_ENGINE.blockSizeTokens;

/**
 * New prompt tokens per second and engine: with each computed only once the GPUs are busy for
 * about two thirds of the time, with the steps' constant part and the attention counted.
 */
export const NEW_TOKENS_PER_SECOND_PER_ENGINE = 4000;

/** A trace's prompts may need a quarter of an engine's memory. */
export const TRACE_LIMITS: TraceLimits = {
  promptTokensMax: Math.floor(KV_TOKENS / 4),
  outputTokensMax: 64,
};
