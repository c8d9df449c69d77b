/**
 * The served index: the writer of the hot table, and a reader of it in the same thread.
 *
 * The table lies in shared memory (docs/architecture.md has its picture): `share` gives what a
 * TableReader in another thread attaches to. Its oracle is the tests' plain index.
 * Cost: 50 to 200 ns for a block's first store, 10 for a further holder's in order, 100 for its end.
 */
import { type BlockKey, type Holder, holderName } from "../core/ids.ts";
import { TIERS, type Tier, tierOrder } from "../tiers/tier.ts";
import type { BlockIndex, HolderMatch, IndexStats, PrefixMatch } from "./block-index.ts";
import { allOf, type KeyPart } from "./block-span.ts";
import type { EvictionGuide } from "./evictor.ts";
import { HolderNames } from "./holder-names.ts";
import { createTable, openTable, type TableHandle, type TableWasm } from "./table-memory.ts";
import { TableReader } from "./table-reader.ts";

/** Distinct blocks where nothing else is said. */
const BLOCKS_MAX_DEFAULT = 16_000_000;
/** No slot: all holders that have one have entries. */
const NO_SLOT = -1;
const NO_PLACES: readonly number[] = [];
/** Up to here a loop copies faster than a call of `set`. */
const COPIED_BY_LOOP = 16;

export class HotIndex implements BlockIndex, EvictionGuide {
  readonly #handle: TableHandle;
  readonly #wasm: TableWasm;
  readonly #reader: TableReader;
  readonly #names: HolderNames;
  readonly #keys: BigUint64Array;
  readonly #parents: BigUint64Array;
  /** Stores that the table refused. */
  readonly #refused: Uint32Array;
  readonly #slots = new Map<string, number>();
  readonly #slotNames: string[] = [];
  /** The same by identity, because a name costs more than a block. */
  #slotOf = new WeakMap<Holder, number>();
  /** The one asked for last, which mostly is the next one too. */
  #lastHolder: Holder | null = null;
  #lastSlot = NO_SLOT;
  /** Entries of each slot, in all tiers together. */
  readonly #held: Uint32Array;
  readonly #entries: Uint32Array;
  readonly #repeatedCount: Uint32Array;
  readonly #repeatedPlaces: Uint32Array;
  readonly #single = new BigUint64Array(1);
  #slotless = 0;
  #repeated: readonly number[] = NO_PLACES;

  /** `blocksMax`: distinct blocks, beyond which stores are refused and counted. */
  constructor(blocksMax = BLOCKS_MAX_DEFAULT) {
    this.#handle = createTable(blocksMax);
    this.#wasm = openTable(this.#handle);
    this.#reader = new TableReader(this.#handle);
    this.#names = new HolderNames(this.#handle, this.#wasm);
    const { buffer } = this.#handle.memory;
    const { WRITE_KEYS_AT, WRITE_KEYS_MAX, REFUSED_AT, ENTRIES_AT, HOLDERS_MAX } = this.#wasm;
    const { REPEATED_AT, WRITE_IDS_AT, WRITE_PARENTS_AT } = this.#wasm;
    this.#keys = new BigUint64Array(buffer, WRITE_KEYS_AT.value, WRITE_KEYS_MAX.value);
    this.#parents = new BigUint64Array(buffer, WRITE_PARENTS_AT.value, WRITE_KEYS_MAX.value);
    this.#refused = new Uint32Array(buffer, REFUSED_AT.value, 1);
    this.#entries = new Uint32Array(buffer, ENTRIES_AT.value, TIERS.length);
    this.#repeatedCount = new Uint32Array(buffer, REPEATED_AT.value, 1);
    this.#repeatedPlaces = new Uint32Array(buffer, WRITE_IDS_AT.value, WRITE_KEYS_MAX.value);
    this.#held = new Uint32Array(HOLDERS_MAX.value);
  }

  /** What a TableReader in another thread attaches to. */
  share(): TableHandle {
    return this.#handle;
  }

  store(holder: Holder, tier: Tier, key: BlockKey): number {
    this.#single[0] = key;
    return this.storeMany(holder, tier, this.#single);
  }

  remove(holder: Holder, tier: Tier, key: BlockKey): void {
    this.#single[0] = key;
    this.removeMany(holder, tier, this.#single);
  }

  storeMany(
    holder: Holder,
    tier: Tier,
    keys: BigUint64Array,
    parents?: BigUint64Array,
    part: KeyPart = allOf(keys),
  ): number {
    const slot = this.#knownSlot(holder) ?? this.#newSlot(holder);
    this.#repeated = NO_PLACES;
    const { length, keysAt, parentsAt } = part;
    if (slot === NO_SLOT) {
      this.#slotless += length;
      return length;
    }
    const order = tierOrder(tier);
    const entries = this.#entries[order] ?? 0;
    const refused = this.#refused[0] ?? 0;
    for (let start = 0; start < length; start += this.#keys.length) {
      const count = Math.min(length - start, this.#keys.length);
      copy(this.#keys, keys, keysAt + start, count);
      // What lies in the next chunk goes on behind the last one.
      if (parents !== undefined) copy(this.#parents, parents, parentsAt + start, count);
      this.#wasm.storeMany(4 * slot + order, count, parents !== undefined);
      const repeated = this.#repeatedCount[0] ?? 0;
      if (repeated > 0) this.#noteRepeated(start, repeated);
    }
    this.#held[slot] = (this.#held[slot] ?? 0) + (this.#entries[order] ?? 0) - entries;
    return (this.#refused[0] ?? 0) - refused;
  }

  get repeated(): readonly number[] {
    return this.#repeated;
  }

  removeMany(holder: Holder, tier: Tier, keys: BigUint64Array): void {
    const slot = this.#knownSlot(holder);
    if (slot === undefined) return;
    const order = tierOrder(tier);
    const entries = this.#entries[order] ?? 0;
    for (let start = 0; start < keys.length; start += this.#keys.length) {
      const count = Math.min(keys.length - start, this.#keys.length);
      copy(this.#keys, keys, start, count);
      this.#wasm.removeMany(4 * slot + order, count);
    }
    this.#held[slot] = (this.#held[slot] ?? 0) + (this.#entries[order] ?? 0) - entries;
  }

  match(keys: BigUint64Array): HolderMatch[] {
    return this.#reader.match(keys);
  }

  prefix(keys: BigUint64Array): PrefixMatch {
    return this.#reader.prefix(keys);
  }

  residency(key: BlockKey): { holder: Holder; tier: Tier }[] {
    return this.#reader.residency(key);
  }

  stats(): IndexStats {
    return this.#reader.stats();
  }

  /** Of 64 blocks that lie side by side, what was matched of one counts for all. */
  standing(key: bigint, epochs: number): number {
    return this.#wasm.standing(key, epochs);
  }

  beginEpoch(): void {
    this.#wasm.beginEpoch();
  }

  /** Entries left out so far, by what was full: blocks or sets of the table, or slots of holders. */
  get refused(): { readonly table: number; readonly holders: number } {
    return { table: this.#refused[0] ?? 0, holders: this.#slotless };
  }

  /** Bytes of blocks, slots and sets; a fixed part of about 1 MB is left out. */
  get byteLength(): number {
    return this.#wasm.bytesUsed();
  }

  #noteRepeated(start: number, count: number): void {
    const places = this.#repeatedPlaces.subarray(0, count);
    this.#repeated = [...this.#repeated, ...Array.from(places, (place) => start + place)];
  }

  #knownSlot(holder: Holder): number | undefined {
    if (holder === this.#lastHolder) return this.#lastSlot;
    const slot = this.#slotOf.get(holder) ?? this.#slots.get(holderName(holder));
    if (slot === undefined) return undefined;
    this.#slotOf.set(holder, slot);
    this.#lastHolder = holder;
    this.#lastSlot = slot;
    return slot;
  }

  /** One that was never given, or else that of a holder without entries; NO_SLOT: there is none. */
  #newSlot(holder: Holder): number {
    const isFresh = this.#slotNames.length < this.#held.length;
    const slot = isFresh ? this.#slotNames.length : this.#held.indexOf(0);
    if (slot === NO_SLOT) return NO_SLOT;
    const name = holderName(holder);
    if (!isFresh) {
      this.#slots.delete(this.#slotNames[slot] ?? "");
      this.#slotOf = new WeakMap();
      this.#lastHolder = null;
    }
    this.#slotNames[slot] = name;
    this.#slots.set(name, slot);
    this.#names.give(slot, holder);
    return slot;
  }
}

/** Copies so many values from `start` on to where the table reads them. */
function copy(target: BigUint64Array, from: BigUint64Array, start: number, count: number): void {
  if (count > COPIED_BY_LOOP) target.set(from.subarray(start, start + count));
  else for (let at = 0; at < count; at += 1) target[at] = from[start + at] ?? 0n;
}
