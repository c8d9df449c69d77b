/** How much of a fleet's time requests ask for, and the same requests at another pace. */
import { decodeSeconds, prefillSeconds } from "../engine/step-cost.ts";
import type { Scenario } from "./scenario.ts";
import type { SimRequest } from "./sim-request.ts";

/** Share of the fleet's KV memory that is taken to be free for what nobody references. */
const CACHE_SHARE = 0.5;

/**
 * Work over capacity: prefill of what one cache of half the fleet's GPU and CPU memory would lack (LRU,
 * in order of arrival), loads from the CPU half, the constant part of full steps,
 * and the context reading of the answers, over the summed speed of the pods that prefill. At 1 hardly any routing keeps up.
 */
export function offeredLoad(requests: readonly SimRequest[], scenario: Scenario): number {
  const first = requests[0]?.atSeconds ?? 0;
  const seconds = (requests.at(-1)?.atSeconds ?? 0) - first;
  return seconds <= 0 ? Number.POSITIVE_INFINITY : workSeconds(requests, scenario) / seconds;
}

/** The requests with their times stretched or pressed until they offer the load. */
export function atLoad(
  requests: readonly SimRequest[],
  load: number,
  scenario: Scenario,
): SimRequest[] {
  const first = requests[0]?.atSeconds ?? 0;
  const span = (requests.at(-1)?.atSeconds ?? 0) - first;
  const seconds = workSeconds(requests, scenario) / load;
  const scale = span <= 0 ? 0 : seconds / span;
  return requests.map((request) => ({
    ...request,
    atSeconds: (request.atSeconds - first) * scale,
  }));
}

/** Seconds that the whole fleet needs for the requests. */
export function workSeconds(requests: readonly SimRequest[], scenario: Scenario): number {
  const { cost, chunkTokens, blockTokens, pods } = scenario;
  const serving = pods.filter(({ role }) => role !== "decode");
  const isDisaggregated = serving.length < pods.length;
  const blocksOf = (tokens: number): number =>
    Math.floor((CACHE_SHARE * tokens * serving.length) / blockTokens);
  const gpu = new RecentBlocks(blocksOf(scenario.kvTokens));
  const cpu = new RecentBlocks(blocksOf(scenario.kvTokens + scenario.cpuTokens));
  const loadSeconds = (blockTokens * scenario.kvBytesPerToken) / scenario.cpuBandwidth;
  const stepShare = 1 + cost.stepBaseSeconds / (cost.prefillSecondsPerToken * chunkTokens);
  let work = 0;
  for (const { inputTokens, outputTokens, blocks, answerBlocks } of requests) {
    const gpuBlocks = gpu.leading(blocks);
    const hitBlocks = Math.max(gpuBlocks, cpu.leading(blocks));
    const hitTokens = Math.min(hitBlocks * blockTokens, inputTokens - 1);
    work += stepShare * prefillSeconds(cost, hitTokens, inputTokens - hitTokens);
    work += loadSeconds * (hitBlocks - gpuBlocks);
    if (!isDisaggregated) {
      work += outputTokens * decodeSeconds(cost, inputTokens + outputTokens / 2);
    }
    const used = [...blocks, ...answerBlocks].reverse();
    gpu.use(used);
    cpu.use(used);
  }
  return work / serving.reduce((sum, pod) => sum + pod.speed, 0);
}

/** The most recently used blocks. */
class RecentBlocks {
  readonly #blocksMax: number;
  readonly #blocks = new Set<number>();

  constructor(blocksMax: number) {
    this.#blocksMax = blocksMax;
  }

  leading(blocks: readonly number[]): number {
    const firstMissing = blocks.findIndex((block) => !this.#blocks.has(block));
    return firstMissing === -1 ? blocks.length : firstMissing;
  }

  use(blocks: readonly number[]): void {
    for (const block of blocks) {
      this.#blocks.delete(block);
      this.#blocks.add(block);
    }
    for (const oldest of this.#blocks) {
      if (this.#blocks.size <= this.#blocksMax) break;
      this.#blocks.delete(oldest);
    }
  }
}
