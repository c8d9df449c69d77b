/**
 * The engine's own block hash: SHA-256 chained over (parent digest, token ids, extra keys).
 *
 * The pre-image differs from vLLM's (which pickles a Python tuple); everything observable is alike:
 * 32-byte digests, a seed for the root, the low 64 bits on the wire. Nobody outside an engine may
 * recompute engine hashes, so the difference cannot be seen.
 */
import { hash } from "node:crypto";

export const DIGEST_BYTES = 32;

/** What besides its tokens separates one cached prefix from another. */
export interface CacheIdentity {
  readonly loraName: string | null;
  /** The engine's number of the adapter, from 1. Null without adapter. */
  readonly loraId: number | null;
  /** Enters the hash of the first block only; later blocks inherit it through their parent. */
  readonly cacheSalt: string | null;
}

export const PLAIN_IDENTITY: CacheIdentity = { loraName: null, loraId: null, cacheSalt: null };

export interface BlockHasherOptions {
  readonly blockSizeTokens: number;
  /** Root of every chain. Engines with different seeds never agree on a hash. */
  readonly seed: string;
}

/** One per engine; keeps a scratch buffer, so that a block costs one digest and no other buffer. */
export class BlockHasher {
  readonly blockSizeTokens: number;
  readonly rootDigest: Uint8Array;
  readonly #extraOffset: number;
  #scratch: Uint8Array;
  #view: DataView;

  constructor(options: BlockHasherOptions) {
    this.blockSizeTokens = options.blockSizeTokens;
    this.rootDigest = hash("sha256", options.seed, "buffer");
    this.#extraOffset = DIGEST_BYTES + options.blockSizeTokens * 4;
    this.#scratch = new Uint8Array(this.#extraOffset);
    this.#view = new DataView(this.#scratch.buffer);
  }

  /** Digest of the block whose tokens begin at `start`. `extra` is from extraKeyBytes. */
  digest(
    parent: Uint8Array,
    tokens: Uint32Array,
    start: number,
    extra: Uint8Array | null,
  ): Uint8Array {
    const bytes = this.#extraOffset + (extra?.length ?? 0);
    if (bytes > this.#scratch.length) {
      this.#scratch = new Uint8Array(bytes);
      this.#view = new DataView(this.#scratch.buffer);
    }
    this.#scratch.set(parent, 0);
    for (let i = 0; i < this.blockSizeTokens; i++) {
      this.#view.setUint32(DIGEST_BYTES + i * 4, tokens[start + i] ?? 0, true);
    }
    if (extra !== null) this.#scratch.set(extra, this.#extraOffset);
    return hash("sha256", this.#scratch.subarray(0, bytes), "buffer");
  }
}

/** Extra keys of a block as they stand in an event: adapter first, salt on the first block. */
export function extraKeys(identity: CacheIdentity, depth: number): readonly string[] | null {
  const keys: string[] = [];
  if (identity.loraName !== null) keys.push(identity.loraName);
  if (identity.cacheSalt !== null && depth === 0) keys.push(identity.cacheSalt);
  return keys.length === 0 ? null : keys;
}

/** Extra keys as hash input: tagged, so that a salt cannot pass for an adapter of that name. */
export function extraKeyBytes(identity: CacheIdentity, depth: number): Uint8Array | null {
  const tagged: [string, string][] = [];
  if (identity.loraName !== null) tagged.push(["lora", identity.loraName]);
  if (identity.cacheSalt !== null && depth === 0) tagged.push(["cache_salt", identity.cacheSalt]);
  return tagged.length === 0 ? null : new TextEncoder().encode(JSON.stringify(tagged));
}
