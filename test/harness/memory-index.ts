/**
 * The plain index: a map from key to a small sorted list of (holder slot, tier) codes, one per store.
 *
 * Written for clarity; a faster table is held against it by block-index.contract.ts.
 * Memory: about 150 bytes per block with one holder.
 */
import { assert } from "../../src/core/assert.ts";
import { type BlockKey, blockKey, type Holder, holderName } from "../../src/core/ids.ts";
import type {
  BlockIndex,
  HolderMatch,
  IndexStats,
  PrefixMatch,
} from "../../src/indexer/block-index.ts";
import { allOf, type KeyPart } from "../../src/indexer/block-span.ts";
import { ALONE, type EvictionGuide, SHARED, WANTED } from "../../src/indexer/evictor.ts";
import { TIERS, type Tier, tierOrder } from "../../src/tiers/tier.ts";

/** A holder's slot times 4 plus its tier's order. */
type Code = number;

interface Progress {
  gpuBlocks: number;
  blocks: number;
  blocksByTier: Record<Tier, number>;
}

export class MemoryIndex implements BlockIndex, EvictionGuide {
  readonly #codes = new Map<bigint, Code[]>();
  readonly #slots = new Map<string, number>();
  readonly #holders: Holder[] = [];
  repeated: number[] = [];
  readonly #entries: Record<Tier, number> = { gpu: 0, cpu: 0, nvme: 0, shared: 0 };
  /** The epoch in which a key was matched last. */
  readonly #matchedIn = new Map<bigint, number>();
  #epoch = 1;

  store(holder: Holder, tier: Tier, key: BlockKey): number {
    const code = this.#code(holder, tier);
    const codes = this.#codes.get(key);
    if (codes === undefined) this.#codes.set(key, [code]);
    else insertSorted(codes, code);
    this.#entries[tier] += 1;
    return 0;
  }

  remove(holder: Holder, tier: Tier, key: BlockKey): void {
    const codes = this.#codes.get(key);
    const slot = this.#slots.get(holderName(holder)) ?? -1;
    const position = codes?.indexOf(slot * 4 + tierOrder(tier)) ?? -1;
    if (codes === undefined || position === -1) return;
    if (codes.length === 1) {
      this.#codes.delete(key);
      this.#matchedIn.delete(key);
    } else codes.splice(position, 1);
    this.#entries[tier] -= 1;
  }

  storeMany(
    holder: Holder,
    tier: Tier,
    keys: BigUint64Array,
    _parents?: BigUint64Array,
    { keysAt, length }: KeyPart = allOf(keys),
  ): number {
    const slot = this.#code(holder, tier) >> 2;
    this.repeated = [];
    for (const [place, key] of keys.subarray(keysAt, keysAt + length).entries()) {
      const codes = this.#codes.get(key) ?? [];
      if (codes.some((code) => code >> 2 === slot)) this.repeated.push(place);
      this.store(holder, tier, blockKey(key));
    }
    return 0;
  }

  removeMany(holder: Holder, tier: Tier, keys: BigUint64Array): void {
    for (const key of keys) this.remove(holder, tier, blockKey(key));
  }

  match(keys: BigUint64Array): HolderMatch[] {
    const progressOf = new Map<number, Progress>();
    for (let depth = 0; depth < keys.length; depth += 1) {
      const codes = this.#codes.get(keys[depth] ?? 0n);
      if (codes === undefined || !advance(progressOf, codes, depth)) break;
      this.#matchedIn.set(keys[depth] ?? 0n, this.#epoch);
    }
    return [...progressOf].map(([slot, progress]) => ({ holder: this.#holder(slot), ...progress }));
  }

  prefix(keys: BigUint64Array): PrefixMatch {
    const held = Array.from(keys, (key) => this.#codes.get(key) ?? []);
    const isShared = (codes: readonly Code[]): boolean => codes.some((code) => (code & 3) === 3);
    const leading = (test: (codes: readonly Code[]) => boolean): number => {
      const end = held.findIndex((codes) => !test(codes));
      return end === -1 ? held.length : end;
    };
    const sharedBlocks = leading(isShared);
    const reachable = this.#holders
      .map((holder, slot) => ({
        holder,
        blocks: leading((codes) => isShared(codes) || codes.some((code) => code >> 2 === slot)),
        ownBlocks: leading((codes) => codes.some((code) => code >> 2 === slot)),
      }))
      // Those who gain nothing over a holder without blocks need not be told of.
      .filter(({ blocks, ownBlocks }) => ownBlocks > 0 || blocks > sharedBlocks)
      .map(({ holder, blocks }) => ({ holder, blocks }));
    const availableBlocks = leading((codes) => codes.length > 0);
    return { matches: this.match(keys), reachable, sharedBlocks, availableBlocks };
  }

  residency(key: BlockKey): { holder: Holder; tier: Tier }[] {
    return (this.#codes.get(key) ?? []).map((code) => ({
      holder: this.#holder(code >> 2),
      tier: tierOfCode(code),
    }));
  }

  standing(key: bigint, epochs: number): number {
    const holders = new Set((this.#codes.get(key) ?? []).map((code) => code >> 2));
    const isWanted = (this.#matchedIn.get(key) ?? -epochs) > this.#epoch - epochs;
    return (holders.size > 1 ? SHARED : ALONE) + (isWanted && holders.size > 0 ? WANTED : ALONE);
  }

  beginEpoch(): void {
    this.#epoch += 1;
  }

  stats(): IndexStats {
    return { blocks: this.#codes.size, entriesByTier: { ...this.#entries } };
  }

  #code(holder: Holder, tier: Tier): Code {
    const name = holderName(holder);
    let slot = this.#slots.get(name);
    if (slot === undefined) {
      slot = this.#holders.length;
      this.#holders.push(holder);
      this.#slots.set(name, slot);
    }
    return slot * 4 + tierOrder(tier);
  }

  #holder(slot: number): Holder {
    const holder = this.#holders[slot];
    assert(holder !== undefined, "slot without a holder", { slot });
    return holder;
  }
}

/** Counts the block at `depth` for every holder that has all blocks before it. */
function advance(
  progressOf: Map<number, Progress>,
  codes: readonly Code[],
  depth: number,
): boolean {
  let hasGrown = false;
  let slotBefore = -1;
  for (const code of codes) {
    const slot = code >> 2;
    // Codes are sorted: a slot's first one is its fastest tier.
    if (slot === slotBefore) continue;
    slotBefore = slot;
    let progress = progressOf.get(slot);
    if (progress === undefined) {
      if (depth > 0) continue;
      progress = { gpuBlocks: 0, blocks: 0, blocksByTier: { gpu: 0, cpu: 0, nvme: 0, shared: 0 } };
      progressOf.set(slot, progress);
    }
    if (progress.blocks !== depth) continue;
    const tier = tierOfCode(code);
    if (tier === "gpu" && progress.gpuBlocks === depth) progress.gpuBlocks += 1;
    progress.blocks += 1;
    progress.blocksByTier[tier] += 1;
    hasGrown = true;
  }
  return hasGrown;
}

function insertSorted(codes: Code[], code: Code): void {
  let position = codes.length;
  while (position > 0 && (codes[position - 1] ?? 0) > code) position -= 1;
  codes.splice(position, 0, code);
}

function tierOfCode(code: Code): Tier {
  const tier = TIERS[code & 3];
  assert(tier !== undefined, "code without a tier", { code });
  return tier;
}
