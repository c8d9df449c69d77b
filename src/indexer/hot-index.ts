/**
 * The served index: keys in a table of words, in the order of their chains, and one shared set of
 * holders for each.
 *
 * A match walks the prompt block by block and is exact also where blocks in the middle are missing.
 * Along a chain that was stored in order the next key is found beside the one before, without hashing,
 * and holders are counted once for each run of blocks that share a set. memory-index.ts is its oracle.
 * Memory: 4 bytes per block beside the table's own; see u64-table.ts.
 */
import { assert } from "../core/assert.ts";
import { type BlockKey, blockKey, type Holder, holderName } from "../core/ids.ts";
import { TIERS, type Tier, tierOrder } from "../tiers/tier.ts";
import type { BlockIndex, HolderMatch, IndexStats } from "./block-index.ts";
import { type Code, EMPTY_SET, HolderSets } from "./holder-sets.ts";
import { PrefixWalk } from "./prefix-walk.ts";
import { grown, NO_ID, U64Table } from "./u64-table.ts";
import { U64Cell, wordsOf } from "./u64-words.ts";

export class HotIndex implements BlockIndex {
  readonly #cell = new U64Cell();
  readonly #table = new U64Table();
  readonly #sets = new HolderSets();
  readonly #walk = new PrefixWalk();
  /** Set of each key. */
  #setOf = new Uint32Array(this.#table.capacity);
  readonly #slots = new Map<string, number>();
  /** The same by identity, because a name costs more than a block. */
  readonly #slotOf = new WeakMap<Holder, number>();
  readonly #holders: Holder[] = [];
  readonly #entries = new Float64Array(TIERS.length);
  /** Where the last key was found or put: its neighbour is looked for beside it. */
  #near = NO_ID;

  store(holder: Holder, tier: Tier, key: BlockKey): void {
    const code = this.#code(holder, tier);
    let id = this.#find(key);
    const set = id === NO_ID ? EMPTY_SET : (this.#setOf[id] ?? EMPTY_SET);
    if (id === NO_ID) id = this.#insert();
    this.#setSet(id, set, this.#sets.with(set, code));
    this.#countEntry(tier, 1);
  }

  remove(holder: Holder, tier: Tier, key: BlockKey): void {
    const id = this.#find(key);
    if (id === NO_ID) return;
    const set = this.#setOf[id] ?? EMPTY_SET;
    const left = this.#sets.without(set, this.#code(holder, tier));
    if (left === set) return;
    this.#setSet(id, set, left);
    if (left === EMPTY_SET) this.#table.delete(id);
    this.#countEntry(tier, -1);
  }

  storeMany(holder: Holder, tier: Tier, keys: BigUint64Array): void {
    for (const key of keys) this.store(holder, tier, blockKey(key));
  }

  removeMany(holder: Holder, tier: Tier, keys: BigUint64Array): void {
    for (const key of keys) this.remove(holder, tier, blockKey(key));
  }

  match(keys: BigUint64Array): HolderMatch[] {
    const words = wordsOf(keys);
    this.#walk.start(this.#holders.length);
    let near = NO_ID;
    let depth = 0;
    while (depth < keys.length) {
      const id = this.#table.find(words[2 * depth] ?? 0, words[2 * depth + 1] ?? 0, near);
      if (id === NO_ID) break;
      const length = this.#table.runLength(id, words, depth);
      if (!this.#advance(id, length)) break;
      depth += length;
      near = id + length - 1;
    }
    return this.#walk.finish().map(({ slot, gpuBlocks, blocks, blocksByTier }) => ({
      ...{ holder: this.#holder(slot), gpuBlocks, blocks, blocksByTier },
    }));
  }

  residency(key: BlockKey): { holder: Holder; tier: Tier }[] {
    const id = this.#find(key);
    const codes = this.#sets.codesOf(id === NO_ID ? EMPTY_SET : (this.#setOf[id] ?? EMPTY_SET));
    return codes.map((code) => ({ holder: this.#holder(code >> 2), tier: tierOfCode(code) }));
  }

  stats(): IndexStats {
    const [gpu = 0, cpu = 0, nvme = 0, shared = 0] = this.#entries;
    return { blocks: this.#table.size, entriesByTier: { gpu, cpu, nvme, shared } };
  }

  /** Bytes of table and column; sets are few beside them. */
  get byteLength(): number {
    return this.#table.byteLength + this.#setOf.byteLength;
  }

  /** Counts `length` blocks that lie side by side from `id` on. False when no holder goes on. */
  #advance(id: number, length: number): boolean {
    const setOf = this.#setOf;
    const end = id + length;
    let start = id;
    while (start < end) {
      const set = setOf[start] ?? EMPTY_SET;
      let at = start + 1;
      while (at < end && setOf[at] === set) at += 1;
      if (!this.#walk.advance(this.#sets.codesOf(set), at - start)) return false;
      start = at;
    }
    return true;
  }

  #find(key: BlockKey): number {
    this.#cell.set(key);
    const id = this.#table.find(this.#cell.low, this.#cell.high, this.#near);
    if (id !== NO_ID) this.#near = id;
    return id;
  }

  /** Inserts the key that was just looked for and not found. */
  #insert(): number {
    const id = this.#table.insert(this.#cell.low, this.#cell.high);
    this.#near = id;
    const { capacity } = this.#table;
    if (this.#setOf.length < capacity) this.#setOf = grown(this.#setOf, new Uint32Array(capacity));
    return id;
  }

  #setSet(id: number, from: number, to: number): void {
    this.#setOf[id] = to;
    // In this order: a set that both have in turn is never without blocks.
    this.#sets.retain(to);
    this.#sets.release(from);
  }

  #countEntry(tier: Tier, change: 1 | -1): void {
    const order = tierOrder(tier);
    this.#entries[order] = (this.#entries[order] ?? 0) + change;
  }

  #code(holder: Holder, tier: Tier): Code {
    return this.#slot(holder) * 4 + tierOrder(tier);
  }

  #slot(holder: Holder): number {
    const known = this.#slotOf.get(holder);
    if (known !== undefined) return known;
    const name = holderName(holder);
    const slot = this.#slots.get(name) ?? this.#holders.length;
    if (slot === this.#holders.length) {
      this.#holders.push(holder);
      this.#slots.set(name, slot);
    }
    this.#slotOf.set(holder, slot);
    return slot;
  }

  #holder(slot: number): Holder {
    const holder = this.#holders[slot];
    assert(holder !== undefined, "slot without a holder", { slot });
    return holder;
  }
}

function tierOfCode(code: Code): Tier {
  const tier = TIERS[code & 3];
  assert(tier !== undefined, "code without a tier", { code });
  return tier;
}
