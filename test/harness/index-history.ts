/** A history of writes to an index, made from a seed: the same in every thread, however long. */
import { endpointId, type Holder } from "../../src/core/ids.ts";
import type { Random } from "../../src/core/random.ts";
import type { BlockIndex } from "../../src/indexer/block-index.ts";
import { TIERS, type Tier } from "../../src/tiers/tier.ts";

const CHAINS = 400;
/** Leading blocks that every fourth chain has in common with its neighbours. */
const HEAD_BLOCKS = 40;
const CHAIN_BLOCKS_MAX = 220;
/**
 * Every so manieth chain fills dozens of pages and has one holder, who mostly writes all of it: a write
 * that takes as long as several answers, and after which nothing of the chain may be left.
 */
const LONG_CHAIN_EVERY = 20;
const LONG_CHAIN_BLOCKS = 1500;
const WRITE_BLOCKS_MAX = 100;

export const HISTORY_HOLDERS: readonly Holder[] = Array.from({ length: 6 }, (_, position) => ({
  endpointId: endpointId(`10.0.0.${position >> 1}:8000`),
  rank: position & 1,
}));

export interface Write {
  readonly isStore: boolean;
  readonly holder: Holder;
  readonly tier: Tier;
  readonly chain: number;
  readonly keys: BigUint64Array;
}

export function historyChains(): readonly BigUint64Array[] {
  return Array.from({ length: CHAINS }, (_, chain) => {
    const isLong = chain % LONG_CHAIN_EVERY === 0;
    const length = isLong ? LONG_CHAIN_BLOCKS : 8 + ((chain * 37) % (CHAIN_BLOCKS_MAX - 8));
    return BigUint64Array.from({ length }, (_, depth) => {
      const owner = depth < HEAD_BLOCKS ? chain & ~3 : chain;
      return BigInt.asUintN(64, BigInt(owner * 2000 + depth + 1) * 0x9e37_79b9_7f4a_7c15n);
    });
  });
}

/**
 * The next write; stores and removals of pieces of chains, some of one block, some of all. There are
 * more removals, so that blocks also lose their last holder; most go from the tail to the head, as
 * engines evict.
 */
export function nextWrite(random: Random, chains: readonly BigUint64Array[]): Write {
  const below = (end: number): number => Math.floor(random.next() * end);
  const chain = below(chains.length);
  const keys = chains[chain] ?? new BigUint64Array();
  const isStore = random.next() < 0.4;
  const isLong = chain % LONG_CHAIN_EVERY === 0;
  const isWhole = random.next() < (isLong ? 0.8 : 0.3);
  const start = isWhole ? 0 : below(keys.length);
  const blocks = random.next() < 0.3 ? 1 : 1 + below(WRITE_BLOCKS_MAX);
  const piece = keys.slice(start, isWhole ? keys.length : start + blocks);
  return {
    isStore,
    holder: HISTORY_HOLDERS[isLong ? 0 : below(HISTORY_HOLDERS.length)] ?? {
      endpointId: endpointId("a:1"),
      rank: 0,
    },
    tier: isLong || random.next() < 0.6 ? "gpu" : (TIERS[below(TIERS.length)] ?? "gpu"),
    chain,
    keys: !isStore && random.next() < 0.7 ? piece.reverse() : piece,
  };
}

export function apply(index: BlockIndex, { isStore, holder, tier, keys }: Write): void {
  if (isStore) index.storeMany(holder, tier, keys);
  else index.removeMany(holder, tier, keys);
}
