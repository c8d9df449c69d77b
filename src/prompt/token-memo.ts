/** Token ids of prompts seen before, by the SHA-256 of what was tokenised; least recently used go. */

/** Token ids kept over all entries: 64 MiB. */
const MEMO_TOKENS_MAX = 16_777_216;

export class TokenMemo {
  readonly #entriesMax: number;
  readonly #entries = new Map<string, Uint32Array>();
  #tokens = 0;

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  get(hash: string): Uint32Array | null {
    const tokens = this.#entries.get(hash);
    if (tokens === undefined) return null;
    this.#entries.delete(hash);
    this.#entries.set(hash, tokens);
    return tokens;
  }

  set(hash: string, tokens: Uint32Array): void {
    this.#tokens += tokens.length - (this.#entries.get(hash)?.length ?? 0);
    this.#entries.delete(hash);
    this.#entries.set(hash, tokens);
    for (const [oldest, { length }] of this.#entries) {
      if (this.#entries.size <= this.#entriesMax && this.#tokens <= MEMO_TOKENS_MAX) return;
      this.#entries.delete(oldest);
      this.#tokens -= length;
    }
  }
}
