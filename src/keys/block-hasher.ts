/**
 * Token ids -> block keys: the one place where content becomes a key, used by both paths.
 *
 * A block's key is XXH64(tokens as u32 little endian, then the parent's key as u64 little endian);
 * the first block's parent is the root key of its namespace. Extras (salt, images) are folded into
 * the parent first. Parent last keeps the hash of neighbouring blocks independent up to the tail.
 * Cost: see chain-core.ts. Roots and extras, one per prompt, are hashed by xxhash-wasm.
 */
import xxhash, { type XXHashAPI } from "xxhash-wasm";
import { assert } from "../core/assert.ts";
import { type BlockKey, blockKey } from "../core/ids.ts";
import { type Log, silentLog } from "../core/log.ts";
import { Slab } from "../core/slab.ts";
import {
  type ChainCore,
  CORE_KEYS_MAX,
  CORE_TOKENS_MAX,
  wasmChainCore,
  xxhashChainCore,
} from "./chain-core.ts";
import { BLOCK_SIZE_TOKENS_MAX, type Namespace } from "./namespace.ts";

/** Where the keys of short prompts lie: a request keeps them for its time. */
const slab = new Slab(16_384);
/** Names the construction in every root, so that a later one cannot meet this one's keys. */
const CONSTRUCTION = "kvatlas-key/1";
/** Token ids hashed at a time, where blocks are not larger: copied, they stay in the first cache. */
const CHUNK_TOKENS = 2048;
/** Up to here a loop copies faster than a call of `set` with its view. */
const COPIED_BY_LOOP = 64;
/** Where in the core keys lie that are copied out, as many as it has tokens; passing keys come after. */
const COPIED_AT = 0;
const PASSING_AT = CORE_TOKENS_MAX;

export interface ChainInput {
  /** Key of the block before the first one, or the namespace's root. */
  readonly parent: BlockKey;
  readonly tokens: Uint32Array;
  /** 1 to BLOCK_SIZE_TOKENS_MAX. */
  readonly blockSizeTokens: number;
  /** Canonical extras (extra-keys.ts) of each block; null or missing entries mean none. */
  readonly extras?: readonly (string | null)[];
}

export interface BlockHasher {
  /** Of the deployment. */
  readonly seed: bigint;
  /** Parent of a namespace's first blocks. */
  rootKey(namespace: Namespace): BlockKey;
  /** Keys of the full blocks in `tokens`, in order; a partial last block has none. */
  chainKeys(input: ChainInput): BigUint64Array;
  /** The same into `keys`, from `start` on, without allocating; returns how many. */
  chainKeysInto(input: ChainInput, keys: BigUint64Array, start: number): number;
  /**
   * The same in memory of the hasher's own, where it has room, which saves their array and a copy. They
   * last until `reuse` is called, and are copied by whoever keeps them for longer.
   */
  passingKeys(input: ChainInput): BigUint64Array;
  /** Ends the life of all passing keys so far. */
  reuse(): void;
}

/**
 * `seed`: of the deployment, 0 to 2^32 - 1; all routers and relays of a fleet share it. `log`: told
 * where our WebAssembly cannot be instantiated; the same keys then take ten times as long.
 */
export async function createBlockHasher(seed: number, log: Log = silentLog): Promise<BlockHasher> {
  const api = await xxhash();
  return blockHasherOf(api, BigInt(seed), fastestCore(api, BigInt(seed), log));
}

function fastestCore(api: XXHashAPI, seed: bigint, log: Log): ChainCore {
  try {
    return wasmChainCore(seed);
  } catch (error) {
    log.warn({ error: String(error) }, "block keys are hashed slowly: no WebAssembly of ours");
    return xxhashChainCore(api, seed);
  }
}

export function blockHasherOf({ h64Raw }: XXHashAPI, seed: bigint, core: ChainCore): BlockHasher {
  const encoder = new TextEncoder();

  /** Hashes `blocks` blocks: to `keys`, or, where it is null, to the core's keys from `start` on. */
  const hashTo = (
    { parent, tokens, blockSizeTokens, extras }: ChainInput,
    blocks: number,
    { keys, start }: { readonly keys: BigUint64Array | null; readonly start: number },
  ): void => {
    const chunkMax = Math.max(1, Math.floor(CHUNK_TOKENS / blockSizeTokens));
    let key: bigint = parent;
    for (let block = 0; block < blocks; ) {
      const folded = extras?.[block] ?? null;
      if (folded !== null) key = h64Raw(encoder.encode(folded), key);
      let end = Math.min(block + chunkMax, blocks);
      if (extras !== undefined) end = beforeNextExtras(extras, block, end);
      load(core.tokens, tokens, block * blockSizeTokens, end * blockSizeTokens);
      const at = keys === null ? start + block : COPIED_AT;
      core.hash(key, end - block, blockSizeTokens, at);
      if (keys !== null) unload(core.keys, keys, start + block, end - block);
      key = core.keys[at + end - block - 1] ?? 0n;
      block = end;
    }
  };
  const blocksOf = ({ tokens, blockSizeTokens }: ChainInput): number => {
    assert(
      blockSizeTokens >= 1 && blockSizeTokens <= BLOCK_SIZE_TOKENS_MAX,
      "block size out of range",
      { blockSizeTokens },
    );
    return Math.floor(tokens.length / blockSizeTokens);
  };
  const chainKeys = (input: ChainInput): BigUint64Array => {
    const blocks = blocksOf(input);
    const keys = slab.u64(blocks);
    hashTo(input, blocks, { keys, start: 0 });
    return keys;
  };
  let passing = PASSING_AT;

  return {
    seed,
    rootKey: ({ model, lora, blockSizeTokens }) =>
      blockKey(
        h64Raw(encoder.encode(JSON.stringify([CONSTRUCTION, model, lora, blockSizeTokens])), seed),
      ),
    chainKeys,
    chainKeysInto: (input, keys, start): number => {
      const blocks = blocksOf(input);
      hashTo(input, blocks, { keys, start });
      return blocks;
    },
    passingKeys: (input): BigUint64Array => {
      const blocks = blocksOf(input);
      const start = passing;
      if (start + blocks > CORE_KEYS_MAX) return chainKeys(input);
      hashTo(input, blocks, { keys: null, start });
      passing += blocks;
      return new BigUint64Array(core.keys.buffer, core.keys.byteOffset + 8 * start, blocks);
    },
    reuse: (): void => {
      passing = PASSING_AT;
    },
  };
}

/** Where the blocks from `block` on that need no other fold end; at most `end`. */
function beforeNextExtras(extras: readonly (string | null)[], block: number, end: number): number {
  const last = Math.min(end, extras.length);
  for (let next = block + 1; next < last; next += 1)
    if ((extras[next] ?? null) !== null) return next;
  return end;
}

function load(chunk: Uint32Array, tokens: Uint32Array, start: number, end: number): void {
  const length = end - start;
  if (length === tokens.length) chunk.set(tokens);
  else if (length > COPIED_BY_LOOP) chunk.set(tokens.subarray(start, end));
  else for (let at = 0; at < length; at += 1) chunk[at] = tokens[start + at] ?? 0;
}

function unload(chunk: BigUint64Array, keys: BigUint64Array, start: number, blocks: number): void {
  if (blocks > COPIED_BY_LOOP) keys.set(chunk.subarray(COPIED_AT, COPIED_AT + blocks), start);
  else for (let at = 0; at < blocks; at += 1) keys[start + at] = chunk[COPIED_AT + at] ?? 0n;
}
