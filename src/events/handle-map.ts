/**
 * One holder's map from engine handles to our keys.
 *
 * An engine names parents and removals by its own hashes only. A removed block's handle is kept as a
 * tombstone for a while, because engines store children under parents that are already evicted.
 */
import type { BlockKey, EngineKey } from "../core/ids.ts";

/** Blocks of one holder; an engine with more GPU, CPU and NVMe blocks than this is refused. */
export const HANDLES_MAX = 8_388_608;
/** Handles remembered after their block is gone, oldest forgotten first. */
export const TOMBSTONES_MAX = 65_536;

interface Live {
  readonly key: BlockKey;
  copies: number;
}

export class HandleMap {
  readonly #live = new Map<EngineKey, Live>();
  readonly #tombstones = new Map<EngineKey, BlockKey>();

  get size(): number {
    return this.#live.size;
  }

  /** Whether a copy is held; a tombstone is none. */
  has(handle: EngineKey): boolean {
    return this.#live.has(handle);
  }

  /** The key of a block that is held, or was until lately. */
  keyOf(handle: EngineKey): BlockKey | null {
    return this.#live.get(handle)?.key ?? this.#tombstones.get(handle) ?? null;
  }

  /** Adds one copy. False when the map is full. */
  add(handle: EngineKey, key: BlockKey, copies = 1): boolean {
    const live = this.#live.get(handle);
    if (live !== undefined) {
      live.copies += copies;
      return true;
    }
    if (this.#live.size >= HANDLES_MAX) return false;
    this.#live.set(handle, { key, copies });
    this.#tombstones.delete(handle);
    return true;
  }

  /** Gives a block another key. */
  rekey(handle: EngineKey, key: BlockKey): void {
    const live = this.#live.get(handle);
    if (live !== undefined) this.#live.set(handle, { key, copies: live.copies });
    else if (this.#tombstones.has(handle)) this.#tombstones.set(handle, key);
  }

  /** Takes one copy away; the last one leaves a tombstone. */
  remove(handle: EngineKey): void {
    const live = this.#live.get(handle);
    if (live === undefined) return;
    live.copies -= 1;
    if (live.copies > 0) return;
    this.#live.delete(handle);
    this.#tombstones.set(handle, live.key);
    if (this.#tombstones.size <= TOMBSTONES_MAX) return;
    const oldest = this.#tombstones.keys().next();
    if (!oldest.done) this.#tombstones.delete(oldest.value);
  }

  clear(): void {
    this.#live.clear();
    this.#tombstones.clear();
  }
}
