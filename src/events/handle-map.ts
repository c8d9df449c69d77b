/**
 * One holder's map from engine handles to our keys.
 *
 * An engine names parents and removals by its own hashes only. A removed block's handle is kept as a
 * tombstone for a while, because engines store children under parents that are already evicted.
 * Memory: 12 bytes per handle beside the table's own.
 */
import { type BlockKey, blockKey, type EngineKey } from "../core/ids.ts";
import { grown, NO_ID, U64Table } from "../indexer/u64-table.ts";
import { U64Cell } from "../indexer/u64-words.ts";
import { TombstoneQueue } from "./tombstone-queue.ts";

/** Blocks of one holder; an engine with more GPU, CPU and NVMe blocks than this is refused. */
export const HANDLES_MAX = 8_388_608;
/** Handles remembered after their block is gone, oldest forgotten first. */
export const TOMBSTONES_MAX = 65_536;
/** Copies of a block counted; more are taken as this many. */
const COPIES_HELD = 0x7fff_ffff;
/** Marks a tombstone in the column of copies; the other bits are its place in the queue. */
const TOMBSTONE = 0x8000_0000;

export class HandleMap {
  readonly #cell = new U64Cell();
  readonly #table = new U64Table();
  /** Our keys, two words for each id. */
  #keys = new Uint32Array(2 * this.#table.capacity);
  /** Copies of a block that is held; of a tombstone, TOMBSTONE and its place in the queue. */
  #copies = new Uint32Array(this.#table.capacity);
  readonly #tombstones = new TombstoneQueue(TOMBSTONES_MAX);
  /** Where the last handle was found or put: its neighbour is looked for beside it. */
  #near = NO_ID;

  get size(): number {
    return this.#table.size - this.#tombstones.size;
  }

  get byteLength(): number {
    const columns = this.#keys.byteLength + this.#copies.byteLength;
    return this.#table.byteLength + columns + this.#tombstones.byteLength;
  }

  /** The key of a block that is held, or was until lately. */
  keyOf(handle: EngineKey): BlockKey | null {
    const id = this.#find(handle);
    return id === NO_ID ? null : this.#keyAt(id);
  }

  /** Whether a copy is held; a tombstone is none. */
  has(handle: EngineKey): boolean {
    const id = this.#find(handle);
    return id !== NO_ID && (this.#copies[id] ?? 0) < TOMBSTONE;
  }

  /** Gives a block another key. */
  rekey(handle: EngineKey, key: BlockKey): void {
    const id = this.#find(handle);
    if (id !== NO_ID) this.#setKey(id, key);
  }

  /** Adds one copy. False when the map is full. */
  add(handle: EngineKey, key: BlockKey, copies = 1): boolean {
    let id = this.#find(handle);
    const known = id === NO_ID ? TOMBSTONE : (this.#copies[id] ?? 0);
    if (known < TOMBSTONE) {
      this.#copies[id] = Math.min(COPIES_HELD, known + copies);
      return true;
    }
    if (this.size >= HANDLES_MAX) return false;
    if (id === NO_ID) id = this.#insert(handle);
    else this.#tombstones.takeOut(known - TOMBSTONE);
    this.#setKey(id, key);
    this.#copies[id] = copies;
    return true;
  }

  /** Takes one copy away; the last one leaves a tombstone. */
  remove(handle: EngineKey): void {
    const id = this.#find(handle);
    if (id === NO_ID) return;
    const copies = this.#copies[id] ?? 0;
    if (copies >= TOMBSTONE) return;
    if (copies > 1) this.#copies[id] = copies - 1;
    else this.#bury(id);
  }

  clear(): void {
    this.#table.clear();
    this.#keys = new Uint32Array(2 * this.#table.capacity);
    this.#copies = new Uint32Array(this.#table.capacity);
    this.#tombstones.clear();
    this.#near = NO_ID;
  }

  #bury(id: number): void {
    if (this.#tombstones.makeRoom()) {
      for (const [each, place] of this.#tombstones.places()) this.#markTombstone(each, place);
    }
    this.#markTombstone(id, this.#tombstones.push(id));
    if (this.#tombstones.size > TOMBSTONES_MAX) this.#table.delete(this.#tombstones.shift());
  }

  #markTombstone(id: number, place: number): void {
    this.#copies[id] = TOMBSTONE + place;
  }

  #find(handle: EngineKey): number {
    this.#cell.set(handle);
    const id = this.#table.find(this.#cell.low, this.#cell.high, this.#near);
    if (id !== NO_ID) this.#near = id;
    return id;
  }

  #insert(handle: EngineKey): number {
    this.#cell.set(handle);
    const id = this.#table.insert(this.#cell.low, this.#cell.high);
    this.#near = id;
    const { capacity } = this.#table;
    if (this.#copies.length < capacity) {
      this.#keys = grown(this.#keys, new Uint32Array(2 * capacity));
      this.#copies = grown(this.#copies, new Uint32Array(capacity));
    }
    return id;
  }

  #setKey(id: number, key: BlockKey): void {
    this.#cell.set(key);
    this.#keys[2 * id] = this.#cell.low;
    this.#keys[2 * id + 1] = this.#cell.high;
  }

  #keyAt(id: number): BlockKey {
    return blockKey(this.#cell.join(this.#keys[2 * id] ?? 0, this.#keys[2 * id + 1] ?? 0));
  }
}
