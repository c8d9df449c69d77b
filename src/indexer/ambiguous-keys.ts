/**
 * Keys of one holder that match nothing, because two of its handles have claimed them.
 *
 * An event that tells no identity beside the tokens (vLLM before 0.17, and events of lower tiers) cannot
 * tell a salted block from a plain one: both have the same tokens, and only their handles differ. Later
 * engines leave out less (an adapter's path). So two handles for one key show that the key may be that of
 * either, and nothing is routed on it in this life of the engine, whatever becomes of the two. What lies
 * behind such a block keeps its keys: a prefix ends at the block that nobody has.
 */

/** Ambiguous keys remembered for one holder, oldest forgotten first. */
export const AMBIGUOUS_KEYS_MAX = 65_536;

export class AmbiguousKeys {
  readonly #keys = new Set<bigint>();
  #isChanged = false;

  get size(): number {
    return this.#keys.size;
  }

  has(key: bigint): boolean {
    return this.#keys.has(key);
  }

  /** False: it was known. */
  add(key: bigint): boolean {
    if (this.#keys.has(key)) return false;
    this.#keys.add(key);
    this.#isChanged = true;
    if (this.#keys.size <= AMBIGUOUS_KEYS_MAX) return true;
    const [oldest] = this.#keys;
    if (oldest !== undefined) this.#keys.delete(oldest);
    return true;
  }

  clear(): void {
    if (this.#keys.size > 0) this.#isChanged = true;
    this.#keys.clear();
  }

  /** Those of the keys that are not ambiguous, in their order. */
  without(keys: BigUint64Array): BigUint64Array {
    if (this.#keys.size === 0 || !keys.some((key) => this.#keys.has(key))) return keys;
    return keys.filter((key) => !this.#keys.has(key));
  }

  /** All of them, oldest first. */
  all(): BigUint64Array {
    return BigUint64Array.from(this.#keys);
  }

  /** All of them if the store has others; null: it has these. */
  takeChanged(): BigUint64Array | null {
    if (!this.#isChanged) return null;
    this.#isChanged = false;
    return this.all();
  }

  /** The store has others, or none. */
  markChanged(): void {
    this.#isChanged = true;
  }

  /** As the store has them. */
  restore(keys: BigUint64Array): void {
    this.#keys.clear();
    for (const key of keys) this.add(key);
    this.#isChanged = false;
  }
}
