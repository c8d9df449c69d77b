/** Scraped engine signals, each with the time it was measured at. */

export interface Aged<Value> {
  readonly value: Value;
  /** Monotonic milliseconds of the measurement. */
  readonly atMs: number;
}

/** Waiting or running requests of one rank that are believed; no engine has a tenth of it. */
export const SIGNAL_REQUESTS_MAX = 1_000_000;

/** What one scrape of an engine says. A name that the engine does not export is null. */
export interface EngineSignals {
  /** Requests waiting for their prefill. */
  readonly waiting: number | null;
  readonly running: number | null;
  /** Share of KV blocks referenced by running requests, 0 to 1. */
  readonly kvUsage: number | null;
  /** Tokens per block, from `vllm:cache_config_info`. */
  readonly blockSizeTokens: number | null;
  /** Blocks of the GPU pool, from `vllm:cache_config_info`. */
  readonly gpuBlocks: number | null;
}
