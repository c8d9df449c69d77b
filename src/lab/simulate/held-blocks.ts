/** What pods hold in simulated time: sets for each (pod, tier), kept in the served index. */
import { blockKey, type EndpointId, type Holder } from "../../core/ids.ts";
import type { IndexWriter } from "../../indexer/block-index.ts";
import type { Tier } from "../../tiers/tier.ts";
import type { KvMessage, KvTier } from "./messages.ts";

const TIER_OF: Readonly<Record<KvTier, Tier>> = { gpu: "gpu", cpu: "cpu", disk: "nvme" };
const KV_TIERS = ["gpu", "cpu", "disk"] as const;

interface HeldByPod {
  readonly holder: Holder;
  readonly blocks: Readonly<Record<KvTier, Set<number>>>;
}

export class HeldBlocks {
  readonly #index: IndexWriter;
  readonly #pods = new Map<EndpointId, HeldByPod>();

  constructor(index: IndexWriter) {
    this.#index = index;
  }

  apply(endpointId: EndpointId, { type, tier, blocks }: KvMessage): void {
    const { holder, blocks: held } = this.#pod(endpointId);
    const set = held[tier];
    for (const block of blocks) {
      const isHeld = set.has(block);
      if (type === "stored" && !isHeld) {
        set.add(block);
        this.#index.store(holder, TIER_OF[tier], blockKey(BigInt(block)));
      } else if (type === "removed" && isHeld) {
        set.delete(block);
        this.#index.remove(holder, TIER_OF[tier], blockKey(BigInt(block)));
      }
    }
  }

  /** The pod has lost everything. */
  forget(endpointId: EndpointId): void {
    const { holder, blocks } = this.#pod(endpointId);
    for (const tier of KV_TIERS) {
      for (const block of blocks[tier]) {
        this.#index.remove(holder, TIER_OF[tier], blockKey(BigInt(block)));
      }
    }
    this.#pods.delete(endpointId);
  }

  #pod(endpointId: EndpointId): HeldByPod {
    const known = this.#pods.get(endpointId);
    if (known !== undefined) return known;
    const blocks = { gpu: new Set<number>(), cpu: new Set<number>(), disk: new Set<number>() };
    const pod = { holder: { endpointId, rank: 0 }, blocks };
    this.#pods.set(endpointId, pod);
    return pod;
  }
}
