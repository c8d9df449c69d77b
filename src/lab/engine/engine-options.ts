/** Options of a simulated engine, with their defaults: one H100 that serves an 8B model. */
import type { EngineCoreOptions } from "./engine-core.ts";
import type { EventEncoderOptions } from "./event-encoding.ts";
import type { ModelNames } from "./openai-request.ts";
import { H100_8B_COST } from "./step-cost.ts";
import type { MetricNames } from "./vllm-metrics.ts";

export interface LabEngineOptions extends EngineCoreOptions, EventEncoderOptions, ModelNames {
  /** HTTP port on 127.0.0.1; 0 lets the system choose. */
  readonly port: number;
  /** Port of the KV events' publisher on 127.0.0.1; 0 lets the system choose. */
  readonly kvEventsPort: number;
  /** First frame of every KV event message. */
  readonly topic: string;
  readonly blockSizeTokens: number;
  /** Root of the engine's block hashes; engines with different seeds never share a hash. */
  readonly hashSeed: string;
  readonly metricNames: MetricNames;
  /** A larger request body is answered with 413. */
  readonly bodyBytesMax: number;
}

export const LAB_ENGINE_DEFAULTS: LabEngineOptions = {
  ...H100_8B_COST,
  model: "lab-8b",
  loraNames: [],
  maxModelLen: 131_072,
  port: 0,
  kvEventsPort: 0,
  topic: "kv-events",
  blockSizeTokens: 16,
  // 65,520 tokens: a small share of an H100, so that a playground sees evictions.
  gpuBlocks: 4096,
  maxSeqs: 256,
  chunkTokens: 8192,
  waitingRequestsMax: 65_536,
  timeScale: 1,
  encoding: "map",
  hashForm: "u64",
  dataParallelRank: 0,
  hashSeed: "vllm-none-hash",
  metricNames: "new",
  bodyBytesMax: 32 * 1024 * 1024,
};
