/**
 * Keys of blocks whose events tell no identity beside the tokens (vLLM before 0.17, and events of lower
 * tiers): which handle stands for which key.
 *
 * Such an event cannot tell a salted block from a plain one: both have the same tokens, and only their
 * handles differ. So two handles for one key show that the key is ambiguous, and from then on nothing
 * may be routed on it: every handle gets a key of its own that no prompt has.
 */
import { type BlockKey, blockKey, type EngineKey } from "../core/ids.ts";

/** Keys remembered for one holder; beyond, the oldest are forgotten and not compared any more. */
export const PLAIN_KEYS_MAX = 1_048_576;
/** Ambiguous keys remembered for one holder. */
export const AMBIGUOUS_KEYS_MAX = 65_536;

export interface PlainKey {
  readonly key: BlockKey;
  /** A block stored earlier that has another key from now on; null: none. */
  readonly rekeyed: { readonly handle: EngineKey; readonly key: BlockKey } | null;
}

export class PlainKeys {
  readonly #handleOfKey = new Map<BlockKey, EngineKey>();
  readonly #ambiguous = new Set<BlockKey>();

  /** The key under which the handle's block may be indexed. */
  resolve(handle: EngineKey, key: BlockKey): PlainKey {
    if (this.#ambiguous.has(key)) return { key: ownKey(handle, key), rekeyed: null };
    const other = this.#handleOfKey.get(key);
    if (other === undefined || other === handle) {
      this.#handleOfKey.set(key, handle);
      dropOldest(this.#handleOfKey, PLAIN_KEYS_MAX);
      return { key, rekeyed: null };
    }
    this.#ambiguous.add(key);
    dropOldest(this.#ambiguous, AMBIGUOUS_KEYS_MAX);
    this.#handleOfKey.delete(key);
    return { key: ownKey(handle, key), rekeyed: { handle: other, key: ownKey(other, key) } };
  }

  clear(): void {
    this.#handleOfKey.clear();
    this.#ambiguous.clear();
  }
}

/** A key that stands for this handle alone; the odd factor spreads it over all 64 bits. */
function ownKey(handle: EngineKey, key: BlockKey): BlockKey {
  return blockKey((handle ^ key) * 0x9e37_79b9_7f4a_7c15n + 1n);
}

function dropOldest<Key>(entries: Map<Key, unknown> | Set<Key>, entriesMax: number): void {
  if (entries.size <= entriesMax) return;
  const oldest = entries.keys().next();
  if (!oldest.done) entries.delete(oldest.value);
}
