/**
 * XXH64 along a chain of blocks, a chunk of tokens at a time: `tokens` is filled, `hash` fills `keys`.
 *
 * Two make the same keys: our WebAssembly, one call for a chunk, and xxhash-wasm, one call for a block,
 * which is ten times slower and needs no file beside the code.
 */
import type { XXHashAPI } from "xxhash-wasm";
import { instantiateWasm } from "../core/file-wasm.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "./namespace.ts";

/** Token ids in a chunk, at least one block of any size; they stay in the processor's first cache. */
export const CHUNK_TOKENS = BLOCK_SIZE_TOKENS_MAX;

export interface ChainCore {
  /** CHUNK_TOKENS long; the first block's tokens come first. */
  readonly tokens: Uint32Array;
  /** CHUNK_TOKENS long; a key for each block of the last `hash`. */
  readonly keys: BigUint64Array;
  /** Hashes the first `blocks` blocks in `tokens`; `parent` is the key before them. */
  hash(parent: bigint, blocks: number, blockSizeTokens: number): void;
}

/** Exports of wasm/block-keys.ts. */
interface BlockKeysWasm {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly TOKENS_AT: { readonly value: number };
  readonly KEYS_AT: { readonly value: number };
  chain(parent: bigint, blocks: number, blockTokens: number, seed: bigint): void;
}

/** Cost: 12 ns per 16-token block, 40 ns for a chain of one. Throws without the .wasm file. */
export function wasmChainCore(seed: bigint): ChainCore {
  const { memory, TOKENS_AT, KEYS_AT, chain } = instantiateWasm<BlockKeysWasm>("block-keys");
  return {
    tokens: new Uint32Array(memory.buffer, TOKENS_AT.value, CHUNK_TOKENS),
    keys: new BigUint64Array(memory.buffer, KEYS_AT.value, CHUNK_TOKENS),
    hash: (parent, blocks, blockSizeTokens): void => chain(parent, blocks, blockSizeTokens, seed),
  };
}

/** Cost: 100 to 150 ns per 16-token block. */
export function xxhashChainCore({ h64Raw }: XXHashAPI, seed: bigint): ChainCore {
  const tokens = new Uint32Array(CHUNK_TOKENS);
  const keys = new BigUint64Array(CHUNK_TOKENS);
  // Views of one block, kept from call to call: making them costs more than hashing it.
  let bytes = new Uint8Array(0);
  let parentView = new DataView(bytes.buffer);
  return {
    tokens,
    keys,
    hash: (parent, blocks, blockSizeTokens): void => {
      const tokenBytes = 4 * blockSizeTokens;
      if (bytes.length !== tokenBytes + 8) {
        bytes = new Uint8Array(tokenBytes + 8);
        parentView = new DataView(bytes.buffer, tokenBytes);
      }
      const source = new Uint8Array(tokens.buffer);
      let key = parent;
      for (let block = 0; block < blocks; block += 1) {
        bytes.set(source.subarray(block * tokenBytes, (block + 1) * tokenBytes));
        parentView.setBigUint64(0, key, true);
        key = h64Raw(bytes, seed);
        keys[block] = key;
      }
    },
  };
}
