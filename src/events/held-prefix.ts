/**
 * The longest prefix of a prompt that one rank of an endpoint holds, also where the size of blocks
 * changes within a chain. Visits each held block of the prompt once, and hashes one block for each of
 * the sizes behind it: for tools, where a request would be keyed as a whole.
 */
import { type BlockKey, blockKey } from "../core/ids.ts";
import type { IndexReader } from "../indexer/block-index.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";

export interface HeldPrefixInput {
  readonly tokens: Uint32Array;
  /** What enters the key of each block beside its tokens, in their order; missing ones: nothing. */
  readonly extras: readonly (string | null)[];
  readonly blockSizesTokens: Iterable<number>;
  /** Keys before the first block, of a size. */
  readonly roots: (blockSizeTokens: number) => readonly BlockKey[];
  readonly index: Pick<IndexReader, "residency">;
  readonly hasher: BlockHasher;
}

/** Of each rank that has all blocks up to here, the tiers that have each of them. */
type Along = ReadonlyMap<number, ReadonlySet<Tier>>;

interface Reached {
  readonly key: BlockKey;
  readonly tokens: number;
  readonly blocks: number;
  readonly along: Along | null;
}

/** Tokens, within one tier and over any. */
export function heldPrefix(input: HeldPrefixInput): Record<Tier | "any", number> {
  const { tokens, extras, roots, index, hasher } = input;
  const sizes = [...input.blockSizesTokens];
  const longest = { gpu: 0, cpu: 0, nvme: 0, shared: 0, any: 0 };
  const behind = ({ key, ...before }: Reached, size: number): Reached[] => {
    const end = before.tokens + size;
    if (end > tokens.length) return [];
    const block = tokens.subarray(before.tokens, end);
    const extra = [extras[before.blocks] ?? null];
    const chain = { parent: key, tokens: block, blockSizeTokens: size, extras: extra };
    const [next = 0n] = hasher.chainKeys(chain);
    return [{ ...before, key: blockKey(next), tokens: end, blocks: before.blocks + 1 }];
  };
  const start = { tokens: 0, blocks: 0, along: null };
  const reached = sizes.flatMap((size) =>
    roots(size).flatMap((key) => behind({ ...start, key }, size)),
  );
  for (let each = reached.pop(); each !== undefined; each = reached.pop()) {
    const along = alongWith(each.along, index.residency(each.key));
    if (along.size === 0) continue;
    longest.any = Math.max(longest.any, each.tokens);
    for (const tier of [...along.values()].flatMap((tiers) => [...tiers])) {
      longest[tier] = Math.max(longest[tier], each.tokens);
    }
    for (const size of sizes) reached.push(...behind({ ...each, along }, size));
  }
  return longest;
}

function alongWith(before: Along | null, places: ReturnType<IndexReader["residency"]>): Along {
  const along = new Map<number, Set<Tier>>();
  for (const { holder, tier } of places) {
    const { rank } = holder;
    if (before !== null && !before.has(rank)) continue;
    const tiers = along.get(rank) ?? new Set();
    along.set(rank, tiers);
    if ((before?.get(rank) ?? ALL_TIERS).has(tier)) tiers.add(tier);
  }
  return along;
}

const ALL_TIERS: ReadonlySet<Tier> = new Set(TIERS);
