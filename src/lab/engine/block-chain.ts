/**
 * The tokens of one request, prompt and then output, with the hash chain over their full blocks.
 *
 * The pool and the published facts refer to a chain and a depth in it, so tokens exist once per
 * request however many blocks and events speak of them.
 */
import { assert } from "../../core/assert.ts";
import {
  type BlockHasher,
  type CacheIdentity,
  DIGEST_BYTES,
  extraKeyBytes,
  extraKeys,
} from "./block-hash.ts";

/** Where the 64 bits that go on the wire begin: the last 8 bytes of a digest. */
const WIRE_OFFSET = DIGEST_BYTES - 8;

export interface BlockChainOptions {
  readonly identity: CacheIdentity;
  readonly prompt: Uint32Array;
  /** Room for output, 0 and more. */
  readonly outputTokensMax: number;
}

export class BlockChain {
  readonly identity: CacheIdentity;
  /** Tokens that came with the request; those behind them are output. */
  readonly promptTokens: number;
  readonly #hasher: BlockHasher;
  readonly #tokens: Uint32Array;
  readonly #digests: Uint8Array;
  readonly #view: DataView;
  readonly #firstExtra: Uint8Array | null;
  readonly #laterExtra: Uint8Array | null;
  #tokenCount: number;
  #fullBlocks = 0;

  constructor(hasher: BlockHasher, options: BlockChainOptions) {
    const capacity = options.prompt.length + options.outputTokensMax;
    this.#hasher = hasher;
    this.identity = options.identity;
    this.promptTokens = options.prompt.length;
    this.#tokens = new Uint32Array(capacity);
    this.#tokens.set(options.prompt);
    this.#tokenCount = options.prompt.length;
    this.#digests = new Uint8Array(Math.floor(capacity / hasher.blockSizeTokens) * DIGEST_BYTES);
    this.#view = new DataView(this.#digests.buffer);
    this.#firstExtra = extraKeyBytes(options.identity, 0);
    this.#laterExtra = extraKeyBytes(options.identity, 1);
    this.#hashFullBlocks();
  }

  get tokenCount(): number {
    return this.#tokenCount;
  }

  get fullBlocks(): number {
    return this.#fullBlocks;
  }

  get blockSizeTokens(): number {
    return this.#hasher.blockSizeTokens;
  }

  append(token: number): void {
    assert(this.#tokenCount < this.#tokens.length, "chain is full", { tokens: this.#tokenCount });
    this.#tokens[this.#tokenCount] = token;
    this.#tokenCount += 1;
    this.#hashFullBlocks();
  }

  /** A view of tokens [start, end), not a copy. */
  tokens(start: number, end: number): Uint32Array {
    return this.#tokens.subarray(start, Math.min(end, this.#tokenCount));
  }

  /** A view of the 32 bytes of a full block's digest. */
  digestAt(depth: number): Uint8Array {
    return this.#digests.subarray(depth * DIGEST_BYTES, (depth + 1) * DIGEST_BYTES);
  }

  /** The hash as the wire carries it: the digest's last 8 bytes, big endian, unsigned. */
  hashAt(depth: number): bigint {
    return this.#view.getBigUint64(depth * DIGEST_BYTES + WIRE_OFFSET);
  }

  extraKeysAt(depth: number): readonly string[] | null {
    return extraKeys(this.identity, depth);
  }

  #hashFullBlocks(): void {
    const size = this.#hasher.blockSizeTokens;
    const wanted = Math.floor(this.#tokenCount / size);
    if (wanted === this.#fullBlocks) return;
    let parent =
      this.#fullBlocks === 0 ? this.#hasher.rootDigest : this.digestAt(this.#fullBlocks - 1);
    for (let depth = this.#fullBlocks; depth < wanted; depth++) {
      const extra = depth === 0 ? this.#firstExtra : this.#laterExtra;
      parent = this.#hasher.digest(parent, this.#tokens, depth * size, extra);
      this.#digests.set(parent, depth * DIGEST_BYTES);
    }
    this.#fullBlocks = wanted;
  }
}
