/** What it costs to bring blocks of a lower tier into the GPU. */
import type { Tier } from "./tier.ts";

export interface LoadCost {
  /** Bytes of KV tensors per token: layers x 2 x KV heads x head size x bytes per element. */
  readonly kvBytesPerToken: number;
  /** Bytes per second from each tier into the GPU. The GPU itself costs nothing. */
  readonly bytesPerSecond: Readonly<Record<Exclude<Tier, "gpu">, number>>;
}

/** Seconds to load `tokens` from `tier`. */
export function loadSeconds(cost: LoadCost, tier: Tier, tokens: number): number {
  if (tier === "gpu") return 0;
  return (tokens * cost.kvBytesPerToken) / cost.bytesPerSecond[tier];
}
