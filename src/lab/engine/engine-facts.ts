/** Everything that a KV event can tell about one rank: the pool's facts, those of the tiers, faults. */
import type { CachedContent, CacheFact } from "./block-pool.ts";

/** A tier below the GPU. */
export type LowerTier = "cpu" | "nvme";

/** Blocks that entered or left a lower tier since the facts before. */
export interface TierFact {
  readonly kind: "tier_stored" | "tier_removed";
  readonly tier: LowerTier;
  readonly blocks: readonly CachedContent[];
}

/** What only a fault makes (see fact-faults.ts). */
export type FaultFact =
  /** Removal of a block that was never stored. */
  | { readonly kind: "removed_unknown"; readonly digest: Uint8Array }
  /** An event of a kind that no version has. */
  | { readonly kind: "unknown_event" };

export type EngineFact = CacheFact | TierFact | FaultFact;
