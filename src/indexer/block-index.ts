/**
 * The index: block key -> holders by tier, and the longest prefix each holder has of a prompt.
 *
 * Both paths meet only here: events write, requests read.
 */
import type { BlockKey, Holder } from "../core/ids.ts";
import type { Tier } from "../tiers/tier.ts";
import type { KeyPart } from "./block-span.ts";

/** Leading blocks of one prompt that one holder has without a gap. */
export interface HolderMatch {
  readonly holder: Holder;
  /** Leading blocks in the GPU tier. */
  readonly gpuBlocks: number;
  /** Leading blocks in any tier; at least 1. */
  readonly blocks: number;
  /** `blocks`, each counted under its fastest tier. */
  readonly blocksByTier: Readonly<Record<Tier, number>>;
}

/** What there is of one prompt, anywhere. */
export interface PrefixMatch {
  readonly matches: HolderMatch[];
  /**
   * Leading blocks that each holder has or some holder has in the shared tier; holders that do not
   * occur come as far as `sharedBlocks`.
   */
  readonly reachable: readonly { readonly holder: Holder; readonly blocks: number }[];
  /** Leading blocks that are in the shared tier of some holder. */
  readonly sharedBlocks: number;
  /** Leading blocks that some holder has, in whatever tier: what was possible. */
  readonly availableBlocks: number;
}

export interface IndexStats {
  /** Distinct keys. */
  readonly blocks: number;
  /** (key, holder, tier) entries, each as often as it is stored. */
  readonly entriesByTier: Readonly<Record<Tier, number>>;
}

export interface IndexReader {
  /** At most one match per holder. Cost: the blocks up to the longest match, times their holders. */
  match(keys: BigUint64Array): HolderMatch[];
  /** The same with what a shared tier could supply, and the best available anywhere. */
  prefix(keys: BigUint64Array): PrefixMatch;
  /** Every (holder, tier) of one key. */
  residency(key: BlockKey): readonly { readonly holder: Holder; readonly tier: Tier }[];
  stats(): IndexStats;
}

/**
 * An entry stored twice must be removed twice; removing what is not stored changes nothing. What is
 * stored beyond a limit is refused: stores return how many entries were.
 */
export interface IndexWriter {
  store(holder: Holder, tier: Tier, key: BlockKey): number;
  remove(holder: Holder, tier: Tier, key: BlockKey): void;
  /**
   * Keys of chains, in their order; to readers they appear at once, up to 4,096 of them. `parents`: the
   * key before each, where it is known, so that it is put behind that in memory; 0 for one that follows
   * the key before it here. `part`: where they lie in these arrays, default: they are all of these.
   */
  storeMany(
    holder: Holder,
    tier: Tier,
    keys: BigUint64Array,
    parents?: BigUint64Array,
    part?: KeyPart,
  ): number;
  /** Places of those keys of the last storeMany that its holder had already, in whatever tier. */
  readonly repeated: readonly number[];
  removeMany(holder: Holder, tier: Tier, keys: BigUint64Array): void;
}

export type BlockIndex = IndexReader & IndexWriter;
