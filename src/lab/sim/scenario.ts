/** The world of a simulation: pods, delays, faults, router replicas; everything but the requests. */
import { H100_8B_COST, type StepCost } from "../engine/step-cost.ts";
import type { ModelFacts, PodFacts, PodRole } from "../simulate/messages.ts";
import type { PodShape } from "./sim-pod.ts";

export interface ScenarioPod {
  readonly role: PodRole;
  /** 1: the nominal accelerator. */
  readonly speed: number;
}

/**
 * - death: its requests fail at once, its KV is lost, connections are refused
 * - drain: connections are refused, what it serves goes on
 * - up: it is ready again; after a death with an empty cache
 */
export interface Fault {
  readonly atSeconds: number;
  /** Place in `pods`. */
  readonly pod: number;
  readonly kind: "death" | "drain" | "up";
}

export interface Scenario {
  readonly pods: readonly ScenarioPod[];
  readonly cost: StepCost;
  readonly chunkTokens: number;
  readonly maxSeqs: number;
  readonly blockTokens: number;
  /** Tokens of a pod's tiers; 0: no such tier. */
  readonly kvTokens: number;
  readonly cpuTokens: number;
  readonly diskTokens: number;
  readonly kvBytesPerToken: number;
  /** Bytes per second into the GPU. */
  readonly cpuBandwidth: number;
  readonly diskBandwidth: number;
  /** From a prefill pod to a decode pod. */
  readonly transferBandwidth: number;
  /** Time between two scrapes of a pod. */
  readonly scrapeSeconds: number;
  /** From an engine's step to its KV events at the router. */
  readonly kvDelaySeconds: number;
  readonly replicas: number;
  /** Whether `share` reaches the other replicas. */
  readonly isGossipOn: boolean;
  readonly faults: readonly Fault[];
  readonly seed: number;
}

/** 16 pods with an 8B model on an H100 each, one router, metrics every second. */
export const SCENARIO_DEFAULTS: Scenario = {
  pods: Array.from({ length: 16 }, () => ({ role: "both", speed: 1 })),
  cost: H100_8B_COST,
  chunkTokens: 8192,
  maxSeqs: 256,
  blockTokens: 512,
  kvTokens: 404_000,
  cpuTokens: 0,
  diskTokens: 0,
  kvBytesPerToken: 131_072,
  cpuBandwidth: 25e9,
  diskBandwidth: 5e9,
  transferBandwidth: 25e9,
  scrapeSeconds: 0.05,
  kvDelaySeconds: 0.01,
  replicas: 1,
  isGossipOn: true,
  faults: [],
  seed: 1,
};

export function podId(index: number): string {
  return `p${index}`;
}

export function podShape(scenario: Scenario, pod: ScenarioPod): PodShape {
  const { blockTokens, kvTokens, cpuTokens, diskTokens } = scenario;
  const blockBytes = blockTokens * scenario.kvBytesPerToken;
  return {
    cost: scenario.cost,
    speed: pod.speed,
    maxSeqs: scenario.maxSeqs,
    chunkTokens: scenario.chunkTokens,
    blockTokens,
    gpuBlocks: Math.floor(kvTokens / blockTokens),
    cpuBlocks: Math.floor(cpuTokens / blockTokens),
    diskBlocks: Math.floor(diskTokens / blockTokens),
    // A tier's bandwidth is the host's, whatever the accelerator's speed.
    cpuLoadSeconds: (blockBytes / scenario.cpuBandwidth) * pod.speed,
    diskLoadSeconds: (blockBytes / scenario.diskBandwidth) * pod.speed,
  };
}

export function podFacts(scenario: Scenario): PodFacts[] {
  const { kvTokens, cpuTokens, diskTokens, maxSeqs } = scenario;
  const lower = [
    ...(cpuTokens > 0 ? ["cpu" as const] : []),
    ...(diskTokens > 0 ? ["disk" as const] : []),
  ];
  return scenario.pods.map(({ role }, index) => ({
    id: podId(index),
    state: "ready",
    role,
    kv_tokens: kvTokens,
    max_seqs: maxSeqs,
    tiers: ["gpu", ...lower],
  }));
}

export function modelFacts(scenario: Scenario): ModelFacts {
  const { cost } = scenario;
  return {
    prefill_s_per_token: cost.prefillSecondsPerToken,
    attn_s_per_pair: cost.attnSecondsPerPair,
    decode_s_per_ctx_token: cost.decodeSecondsPerContextToken,
    step_base_s: cost.stepBaseSeconds,
    chunk_tokens: scenario.chunkTokens,
    kv_bytes_per_token: scenario.kvBytesPerToken,
    cpu_bw: scenario.cpuTokens > 0 ? scenario.cpuBandwidth : 0,
    disk_bw: scenario.diskTokens > 0 ? scenario.diskBandwidth : 0,
  };
}
