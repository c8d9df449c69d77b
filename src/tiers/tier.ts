/**
 * What a tier is: where a block's KV tensors lie, from the cheapest to the dearest to use.
 *
 * Engines name media in many ways; an unknown medium is counted and skipped, never taken for GPU.
 */

export const TIERS = ["gpu", "cpu", "nvme", "shared"] as const;

/**
 * - gpu: in the engine's GPU block pool, usable at no cost
 * - cpu: in host memory of the pod, loaded over PCIe
 * - nvme: on a disk of the pod
 * - shared: in a store that any pod can load from over the network
 */
export type Tier = (typeof TIERS)[number];

const ORDER_OF_TIER: Readonly<Record<Tier, number>> = { gpu: 0, cpu: 1, nvme: 2, shared: 3 };

/** A tier's place in TIERS: 0 is the cheapest. */
export function tierOrder(tier: Tier): number {
  return ORDER_OF_TIER[tier];
}

const TIER_OF_MEDIUM: ReadonlyMap<string, Tier> = new Map([
  ["GPU", "gpu"],
  ["DEVICE", "gpu"],
  ["CPU", "cpu"],
  ["CPU_PINNED", "cpu"],
  ["CPU_TIER1", "cpu"],
  ["CPU_TIER2", "nvme"],
  ["DISK", "nvme"],
  ["NVME", "nvme"],
  ["FS", "nvme"],
  ["STORAGE", "nvme"],
  ["EXTERNAL", "shared"],
  ["NETWORK", "shared"],
  ["REMOTE", "shared"],
  ["SHARED", "shared"],
]);

/** Maps an engine's `medium` (any case; null means the GPU: vLLM before 0.10.2 sends none). */
export function tierOfMedium(medium: string | null): Tier | "unknown" {
  if (medium === null || medium === "GPU") return "gpu";
  // Mostly it is in upper case already, and making it so takes as long as three look-ups.
  return TIER_OF_MEDIUM.get(medium) ?? TIER_OF_MEDIUM.get(medium.toUpperCase()) ?? "unknown";
}
