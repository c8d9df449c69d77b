/**
 * What the rows of all holders have in the index: (key, holder, tier) entries, as rows gain their first
 * copy in a tier and lose their last.
 *
 * A key that the index has for a holder already, when another handle enters with it, is ambiguous: the
 * holder has no entries for it from then on, whatever its rows have.
 */
import type { Holder } from "../core/ids.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";
import type { AmbiguousKeys } from "./ambiguous-keys.ts";
import type { IndexWriter } from "./block-index.ts";
import { allOf, type KeyPart } from "./block-span.ts";

interface Owner {
  readonly holder: Holder;
  readonly ambiguous: AmbiguousKeys;
}

const NO_KEYS: ReadonlyMap<bigint, number> = new Map();

export class IndexEntries {
  readonly #index: IndexWriter;
  /** Of rows, those with ambiguous keys included. */
  total = 0;
  #ambiguousFound = 0;
  #repeated = NO_KEYS;

  constructor(index: IndexWriter) {
    this.#index = index;
  }

  /** Keys that the last `enter` found with their holder already, and how often. */
  get repeated(): ReadonlyMap<bigint, number> {
    return this.#repeated;
  }

  /** Returns how many the index refused: the engine has them, and nobody will find them. */
  enter(
    owner: Owner,
    tier: Tier,
    keys: BigUint64Array,
    parents?: BigUint64Array,
    part: KeyPart = allOf(keys),
  ): number {
    this.#repeated = NO_KEYS;
    const { keysAt, length } = part;
    if (length === 0) return 0;
    this.total += length;
    if (owner.ambiguous.size > 0) {
      const told = owner.ambiguous.without(keys.subarray(keysAt, keysAt + length));
      if (told.length === 0) return 0;
      if (told.length < length) return this.#tell(owner, tier, told, undefined, allOf(told));
    }
    return this.#tell(owner, tier, keys, parents, part);
  }

  #tell(
    { holder }: Owner,
    tier: Tier,
    keys: BigUint64Array,
    parents: BigUint64Array | undefined,
    part: KeyPart,
  ): number {
    const refused = this.#index.storeMany(holder, tier, keys, parents, part);
    const { repeated } = this.#index;
    if (repeated.length > 0) {
      this.#repeated = counted(repeated.map((place) => keys[part.keysAt + place] ?? 0n));
    }
    return refused;
  }

  /** Of ambiguous keys the index has nothing: it takes their removal for what it is. */
  leave(owner: Owner, tier: Tier, keys: BigUint64Array): void {
    if (keys.length === 0) return;
    this.#index.removeMany(owner.holder, tier, keys);
    this.total -= keys.length;
  }

  /** Of a key that the last event entered for a handle without another entry. */
  disownIfRepeated(owner: Owner, key: bigint): void {
    if (this.#repeated.has(key)) this.disown(owner, key);
  }

  /** From now on nothing of a holder is found under this key. */
  disown(owner: Owner, key: bigint): void {
    if (!owner.ambiguous.add(key)) return;
    this.#ambiguousFound += 1;
    // One handle had at most one entry in each tier, and the others entered with the last event.
    const entries = new BigUint64Array((this.#repeated.get(key) ?? 0) + 1).fill(key);
    for (const tier of TIERS) this.#index.removeMany(owner.holder, tier, entries);
  }

  /** Keys that turned out to be ambiguous since the last call. */
  takeAmbiguousFound(): number {
    const found = this.#ambiguousFound;
    this.#ambiguousFound = 0;
    return found;
  }
}

function counted(keys: readonly bigint[]): ReadonlyMap<bigint, number> {
  const times = new Map<bigint, number>();
  for (const key of keys) times.set(key, (times.get(key) ?? 0) + 1);
  return times;
}
