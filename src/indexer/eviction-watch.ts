/** Stands before the index and reports what is removed from it. */
import type { BlockKey, Holder } from "../core/ids.ts";
import type { Tier } from "../tiers/tier.ts";
import type { IndexWriter } from "./block-index.ts";
import type { KeyPart } from "./block-span.ts";
import type { EvictionBoard } from "./eviction-board.ts";
import { U64Cell } from "./u64-words.ts";

export class EvictionWatch implements IndexWriter {
  readonly #next: IndexWriter;
  readonly #board: EvictionBoard;
  readonly #cell = new U64Cell();

  constructor(next: IndexWriter, board: EvictionBoard) {
    this.#next = next;
    this.#board = board;
  }

  store(holder: Holder, tier: Tier, key: BlockKey): number {
    return this.#next.store(holder, tier, key);
  }

  remove(holder: Holder, tier: Tier, key: BlockKey): void {
    this.#next.remove(holder, tier, key);
    this.#cell.set(key);
    this.#board.removed(holder.endpointId, this.#cell.low, this.#cell.high);
  }

  storeMany(
    holder: Holder,
    tier: Tier,
    keys: BigUint64Array,
    parents?: BigUint64Array,
    part?: KeyPart,
  ): number {
    return this.#next.storeMany(holder, tier, keys, parents, part);
  }

  get repeated(): readonly number[] {
    return this.#next.repeated;
  }

  removeMany(holder: Holder, tier: Tier, keys: BigUint64Array): void {
    this.#next.removeMany(holder, tier, keys);
    for (const key of keys) {
      this.#cell.set(key);
      this.#board.removed(holder.endpointId, this.#cell.low, this.#cell.high);
    }
  }
}
