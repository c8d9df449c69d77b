/** Token ids of text seen before, by the SHA-256 of the text; the least recently used go. */
import { hash } from "node:crypto";

/**
 * Longer texts are hashed; the hash of one has 44 characters, so no two texts have the same key. V8
 * makes a view of every longer piece of a text, and a key that is one would keep the whole text.
 */
const PLAIN_CHARS_MAX = 12;

/** Bytes that an entry takes beside its token ids: key, typed array, place in the map. */
const ENTRY_BYTES = 256;

export class TokenMemo {
  readonly #bytesMax: number;
  readonly #entries = new Map<string, Uint32Array>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(key: string): Uint32Array | null {
    const tokens = this.#entries.get(key);
    if (tokens === undefined) return null;
    this.#entries.delete(key);
    this.#entries.set(key, tokens);
    return tokens;
  }

  /** The array is kept as it is: it must not be a view into a larger one, nor change. */
  set(key: string, tokens: Uint32Array): void {
    this.#forget(key);
    this.#entries.set(key, tokens);
    this.#bytes += bytesOf(tokens);
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    const tokens = this.#entries.get(key);
    if (tokens === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= bytesOf(tokens);
  }
}

/** Key of a text in a memo: no two texts have the same, however they were made. */
export function memoKey(text: string): string {
  return text.length <= PLAIN_CHARS_MAX ? text : hash("sha256", text, "base64");
}

/** Key of an engine's call, which no text has: it is longer than any of those. */
export function callKey(body: string): string {
  return `engine ${hash("sha256", body, "base64")}`;
}

function bytesOf(tokens: Uint32Array): number {
  return tokens.byteLength + ENTRY_BYTES;
}
