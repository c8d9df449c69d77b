/**
 * The served index: the writer of the hot table, and a reader of it in the same thread.
 *
 * The table lies in shared memory (docs/architecture.md has its picture): `share` gives what a
 * TableReader in another thread attaches to. Its oracle is the tests' plain index.
 * Cost: 50 to 200 ns for a block's first store, 10 for a further holder's in order, 100 for its end.
 */
import { type BlockKey, type Holder, holderName } from "../core/ids.ts";
import { type Tier, tierOrder } from "../tiers/tier.ts";
import type { BlockIndex, HolderMatch, IndexStats, PrefixMatch } from "./block-index.ts";
import { HolderNames, NO_SLOT } from "./holder-names.ts";
import { createTable, openTable, type TableHandle, type TableWasm } from "./table-memory.ts";
import { TableReader } from "./table-reader.ts";

/** Distinct blocks where nothing else is said. */
const BLOCKS_MAX_DEFAULT = 16_000_000;
/** The key before the first one is not known. */
const NO_PARENT = 0n;
/** Up to here a loop copies faster than a call of `set`. */
const COPIED_BY_LOOP = 16;

export class HotIndex implements BlockIndex {
  readonly #handle: TableHandle;
  readonly #wasm: TableWasm;
  readonly #reader: TableReader;
  readonly #names: HolderNames;
  readonly #keys: BigUint64Array;
  readonly #refused: Uint32Array;
  readonly #slots = new Map<string, number>();
  /** The same by identity, because a name costs more than a block. */
  readonly #slotOf = new WeakMap<Holder, number>();
  #slotless = 0;

  /** `blocksMax`: distinct blocks, beyond which stores are refused and counted. */
  constructor(blocksMax = BLOCKS_MAX_DEFAULT) {
    this.#handle = createTable(blocksMax);
    this.#wasm = openTable(this.#handle);
    this.#reader = new TableReader(this.#handle);
    this.#names = new HolderNames(this.#handle, this.#wasm);
    const { buffer } = this.#handle.memory;
    const { WRITE_KEYS_AT, WRITE_KEYS_MAX, REFUSED_AT } = this.#wasm;
    this.#keys = new BigUint64Array(buffer, WRITE_KEYS_AT.value, WRITE_KEYS_MAX.value);
    this.#refused = new Uint32Array(buffer, REFUSED_AT.value, 1);
  }

  /** What a TableReader in another thread attaches to. */
  share(): TableHandle {
    return this.#handle;
  }

  store(holder: Holder, tier: Tier, key: BlockKey): void {
    const slot = this.#slotOf.get(holder) ?? this.#slotByName(holder) ?? this.#newSlot(holder);
    this.#keys[0] = key;
    if (slot === NO_SLOT) this.#slotless += 1;
    else this.#wasm.storeMany(codeOf(slot, tier), 1, NO_PARENT);
  }

  remove(holder: Holder, tier: Tier, key: BlockKey): void {
    const slot = this.#slotOf.get(holder) ?? this.#slotByName(holder);
    if (slot === undefined) return;
    this.#keys[0] = key;
    this.#wasm.removeMany(codeOf(slot, tier), 1);
  }

  storeMany(holder: Holder, tier: Tier, keys: BigUint64Array, parent = NO_PARENT): void {
    const slot = this.#slotOf.get(holder) ?? this.#slotByName(holder) ?? this.#newSlot(holder);
    if (slot === NO_SLOT) {
      this.#slotless += keys.length;
      return;
    }
    for (let start = 0; start < keys.length; start += this.#keys.length) {
      const before = start === 0 ? parent : (keys[start - 1] ?? NO_PARENT);
      this.#wasm.storeMany(codeOf(slot, tier), this.#load(keys, start), before);
    }
  }

  removeMany(holder: Holder, tier: Tier, keys: BigUint64Array): void {
    const slot = this.#slotOf.get(holder) ?? this.#slotByName(holder);
    if (slot === undefined) return;
    for (let start = 0; start < keys.length; start += this.#keys.length) {
      this.#wasm.removeMany(codeOf(slot, tier), this.#load(keys, start));
    }
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

  /** Entries left out because blocks, holders or sets reached their limit. */
  get refused(): number {
    return (this.#refused[0] ?? 0) + this.#slotless;
  }

  /** Bytes of blocks, slots and sets; a fixed part of about 1 MB is left out. */
  get byteLength(): number {
    return this.#wasm.bytesUsed();
  }

  /** Copies a chunk of keys to where the table reads them; returns how many. */
  #load(keys: BigUint64Array, start: number): number {
    const length = Math.min(keys.length - start, this.#keys.length);
    if (length > COPIED_BY_LOOP) this.#keys.set(keys.subarray(start, start + length));
    else for (let at = 0; at < length; at += 1) this.#keys[at] = keys[start + at] ?? 0n;
    return length;
  }

  #slotByName(holder: Holder): number | undefined {
    const slot = this.#slots.get(holderName(holder));
    if (slot !== undefined) this.#slotOf.set(holder, slot);
    return slot;
  }

  #newSlot(holder: Holder): number {
    const slot = this.#names.give(holder);
    if (slot !== NO_SLOT) this.#slots.set(holderName(holder), slot);
    return slot;
  }
}

function codeOf(slot: number, tier: Tier): number {
  return slot * 4 + tierOrder(tier);
}
