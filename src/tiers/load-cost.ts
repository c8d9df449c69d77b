/** What it costs to bring blocks of a lower tier into the GPU. */
import type { Tier } from "./tier.ts";

export interface LoadCost {
  /** Bytes of KV tensors per token: layers x 2 x KV heads x head size x bytes per element. */
  readonly kvBytesPerToken: number;
  /** Bytes per second from each tier into the GPU. The GPU itself costs nothing. */
  readonly bytesPerSecond: Readonly<Record<Exclude<Tier, "gpu">, number>>;
}

/** An 8B model with grouped-query attention on a PCIe 5 host: 32 layers x 2 x 8 heads x 128 x 2 B. */
export const LOAD_COST_DEFAULT: LoadCost = {
  kvBytesPerToken: 131_072,
  bytesPerSecond: { cpu: 25e9, nvme: 5e9, shared: 2.5e9 },
};

/** Seconds to load `tokens` from `tier`. */
export function loadSeconds(cost: LoadCost, tier: Tier, tokens: number): number {
  if (tier === "gpu") return 0;
  return (tokens * cost.kvBytesPerToken) / cost.bytesPerSecond[tier];
}
