/** Options of a simulated engine, with their defaults: one H100 that serves an 8B model. */
import type { TierOptions } from "./cache-tiers.ts";
import type { EngineCoreOptions } from "./engine-core.ts";
import type { EventEncoderOptions } from "./event-encoding.ts";
import { OFFLOAD_DEFAULTS, type OffloadOptions } from "./offload-fields.ts";
import type { ModelNames } from "./openai-request.ts";
import type { ReplayForm } from "./replay-buffer.ts";
import { H100_8B_COST } from "./step-cost.ts";
import type { MetricNames } from "./vllm-metrics.ts";

export interface LabEngineOptions
  extends EngineCoreOptions,
    EventEncoderOptions,
    TierOptions,
    OffloadOptions,
    ModelNames {
  /** HTTP port on 127.0.0.1; 0 lets the system choose. */
  readonly port: number;
  /**
   * Data-parallel ranks behind the HTTP port, 1 and more: each with `gpuBlocks`, `maxSeqs` and tiers
   * of its own. Requests go round robin, or where x-data-parallel-rank says. The batches of rank r
   * carry dataParallelRank + r.
   */
  readonly ranks: number;
  /**
   * Port of rank 0's KV events on 127.0.0.1, rank r at + r; 0 lets the system choose, for several
   * ranks consecutive ones.
   */
  readonly kvEventsPort: number;
  /** "tcp://host:port": rank r's publisher connects to port + r in place of binding. Null: binds. */
  readonly kvEventsConnect: string | null;
  /** Port of rank 0's replay socket, counted like kvEventsPort. Null: no replay socket. */
  readonly replayPort: number | null;
  readonly replayForm: ReplayForm;
  /** Newest batches that the replay socket can send again; vLLM's buffer_steps. */
  readonly bufferSteps: number;
  /** Decides what faults do at random; rank r adds r. */
  readonly faultSeed: number;
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
  ...OFFLOAD_DEFAULTS,
  model: "lab-8b",
  loraNames: [],
  maxModelLen: 131_072,
  port: 0,
  ranks: 1,
  kvEventsPort: 0,
  kvEventsConnect: null,
  replayPort: null,
  replayForm: "topic-seq",
  bufferSteps: 10_000,
  faultSeed: 1,
  topic: "kv-events",
  blockSizeTokens: 16,
  // 65,520 tokens: a small share of an H100, so that a playground sees evictions.
  gpuBlocks: 4096,
  tiers: { cpuBlocks: 0, nvmeBlocks: 0 },
  offloadWhen: "evicted",
  // 32 layers, 8 KV heads of 128 in 16 bits; PCIe 5 x16 at 50 GB/s, an NVMe drive at 7 GB/s.
  kvBytesPerToken: 131_072,
  cpuLoadSecondsPerByte: 1 / 50e9,
  nvmeLoadSecondsPerByte: 1 / 7e9,
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
