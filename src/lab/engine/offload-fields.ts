/**
 * Events of the tiers below the GPU, as vLLM's OffloadingConnector tells them.
 *
 * Hashes as integers: as 0.24 and later, one stored event per block. Hashes as raw bytes: as 0.23,
 * one stored event for all blocks of a step, without group, beside integers in the GPU's events.
 * `placeholder` stores carry nothing but the hash; `self_describing` ones carry the payload of a GPU
 * store without its extra keys. Blocks stand in no order of their prefix.
 */
import type { CachedContent } from "./block-pool.ts";
import type { LowerTier, TierFact } from "./engine-facts.ts";

export interface OffloadOptions {
  /** Default: `placeholder`, as vLLM. */
  readonly offloadEvents: "placeholder" | "self_describing";
  /** Default: `u64`. `bytes`: the 32 bytes of the digest, whatever the GPU's events carry. */
  readonly offloadHashForm: "u64" | "bytes";
  /** What the events call the NVMe tier. Default: `STORAGE`, 0.28 and later; `FS`: 0.26 and 0.27. */
  readonly nvmeMedium: "STORAGE" | "FS";
}

export const OFFLOAD_DEFAULTS: OffloadOptions = {
  offloadEvents: "placeholder",
  offloadHashForm: "u64",
  nvmeMedium: "STORAGE",
};

/** Tag and fields of one event, in the order of eventFields. */
export interface OffloadEvent {
  readonly tag: "BlockStored" | "BlockRemoved";
  readonly fields: Readonly<Record<string, unknown>>;
}

const GROUP_INDEX = 0;

export function offloadEvents(fact: TierFact, options: OffloadOptions): OffloadEvent[] {
  const isRaw = options.offloadHashForm === "bytes";
  const medium = mediumOf(fact.tier, options);
  const group = isRaw ? null : GROUP_INDEX;
  const hash = (content: CachedContent): bigint | Uint8Array => hashOf(content, options);
  if (fact.kind === "tier_removed") {
    const fields = { block_hashes: fact.blocks.map(hash), medium, group_idx: group };
    return [{ tag: "BlockRemoved", fields }];
  }
  const blocks = fact.blocks.toSorted(byHash);
  if (options.offloadEvents === "self_describing") {
    return blocks.map((block) => ({
      tag: "BlockStored",
      fields: described(block, { medium, group, options }),
    }));
  }
  const groups = isRaw ? [blocks] : blocks.map((block) => [block]);
  return groups.map((together) => ({
    tag: "BlockStored",
    fields: {
      block_hashes: together.map(hash),
      parent_block_hash: null,
      token_ids: [],
      block_size: 0,
      lora_id: null,
      medium,
      lora_name: null,
      extra_keys: null,
      group_idx: group,
    },
  }));
}

function described(
  content: CachedContent,
  wire: {
    readonly medium: string;
    readonly group: number | null;
    readonly options: OffloadOptions;
  },
): Readonly<Record<string, unknown>> {
  const { chain, depth } = content;
  const size = chain.blockSizeTokens;
  return {
    block_hashes: [hashOf(content, wire.options)],
    parent_block_hash: depth === 0 ? null : hashOf({ chain, depth: depth - 1 }, wire.options),
    token_ids: Array.from(chain.tokens(depth * size, (depth + 1) * size)),
    block_size: size,
    lora_id: chain.identity.loraId,
    medium: wire.medium,
    lora_name: chain.identity.loraName,
    extra_keys: null,
    group_idx: wire.group,
    kv_cache_spec_kind: "full_attention",
  };
}

function mediumOf(tier: LowerTier, options: OffloadOptions): string {
  return tier === "cpu" ? "CPU" : options.nvmeMedium;
}

function hashOf({ chain, depth }: CachedContent, options: OffloadOptions): bigint | Uint8Array {
  return options.offloadHashForm === "u64" ? chain.hashAt(depth) : chain.digestAt(depth);
}

function byHash(left: CachedContent, right: CachedContent): number {
  return left.chain.hashAt(left.depth) < right.chain.hashAt(right.depth) ? -1 : 1;
}
