/**
 * Which row of the handle map stands for which key that follows from an event.
 *
 * An event that tells no identity beside the tokens (vLLM before 0.17, and events of lower tiers) cannot
 * tell a salted block from a plain one: both have the same tokens, and only their handles differ. Later
 * engines leave out less (an adapter's path). So two handles for one key show that the key is ambiguous, and from then on nothing
 * may be routed on it: every handle gets a key of its own that no prompt has. A claim lives as long as
 * its row: while the block is held, and as a tombstone. Memory: 5 to 8 bytes per row, from the first
 * such event on.
 */
import { type BlockKey, blockKey, type EngineKey } from "../core/ids.ts";
import { HandleSlots, NO_ROW } from "../indexer/handle-slots.ts";
import { U64Cell } from "../indexer/u64-words.ts";

/** Ambiguous keys remembered for one holder, oldest forgotten first. */
export const AMBIGUOUS_KEYS_MAX = 65_536;

export class PlainKeys {
  readonly #cell = new U64Cell();
  /** The map's column of keys, two words for each row. */
  #keys: Uint32Array;
  /** Rows by key; null until there is one. */
  #slots: HandleSlots | null = null;
  readonly #ambiguous = new Set<BlockKey>();

  constructor(keys: Uint32Array) {
    this.#keys = keys;
  }

  get byteLength(): number {
    return this.#slots?.byteLength ?? 0;
  }

  /** The column has moved. */
  moveTo(keys: Uint32Array): void {
    this.#keys = keys;
    this.#slots?.moveTo(keys, keys.length / 2);
  }

  /** Whether a key belongs to a row, or to none any more. */
  isTaken(low: number, high: number): boolean {
    const isClaimed = this.#slots !== null && this.#slots.find(low, high) !== NO_ROW;
    return isClaimed || (this.#ambiguous.size > 0 && this.isAmbiguous(this.#key(low, high)));
  }

  /** The row that has claimed a key, or NO_ROW. */
  rowOf(low: number, high: number): number {
    return this.#slots?.find(low, high) ?? NO_ROW;
  }

  /** A row claims its key, which was asked for last and is not taken. */
  claim(row: number): void {
    this.#slots ??= new HandleSlots(this.#keys);
    this.#slots.insertMissed(row);
  }

  /** Takes back the claim of a row, if it has one. */
  unclaim(row: number): void {
    this.#slots?.delete(row);
  }

  /** Loads what looking these keys up will need; see HandleSlots. */
  touch(keys: BigUint64Array): void {
    this.#slots?.touch(keys);
  }

  /** The same for the claim of a row. */
  touchRow(row: number): void {
    this.#slots?.touchRow(row);
  }

  isAmbiguous(key: BlockKey): boolean {
    return this.#ambiguous.has(key);
  }

  addAmbiguous(key: BlockKey): void {
    this.#ambiguous.add(key);
    if (this.#ambiguous.size <= AMBIGUOUS_KEYS_MAX) return;
    const [oldest] = this.#ambiguous;
    if (oldest !== undefined) this.#ambiguous.delete(oldest);
  }

  clear(keys: Uint32Array): void {
    this.#keys = keys;
    this.#slots = null;
    this.#ambiguous.clear();
  }

  #key(low: number, high: number): BlockKey {
    return blockKey(this.#cell.join(low, high));
  }
}

/** A key that stands for this handle alone; the odd factor spreads it over all 64 bits. */
export function ownKey(handle: EngineKey, key: BlockKey): BlockKey {
  return blockKey((handle ^ key) * 0x9e37_79b9_7f4a_7c15n + 1n);
}
