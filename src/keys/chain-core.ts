/**
 * XXH64 along a chain of blocks, some tokens at a time: `tokens` is filled, `hash` fills `keys`.
 *
 * Two make the same keys: our WebAssembly, one call for all of them, and xxhash-wasm, one call for a block,
 * which is ten times slower and needs no file beside the code.
 */
import type { XXHashAPI } from "xxhash-wasm";
import { instantiateWasm, type OwnMemory } from "../core/file-wasm.ts";
import { copiedFrom } from "../core/memory-copy.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "./namespace.ts";

/** Token ids that there is room for at one time: a block of any size. */
export const CORE_TOKENS_MAX = BLOCK_SIZE_TOKENS_MAX;
/** Keys that there is room for at one time. */
export const CORE_KEYS_MAX = 131_072;

export interface ChainCore {
  /** CORE_TOKENS_MAX long; the first block's tokens come first. */
  readonly tokens: Uint32Array;
  /** CORE_KEYS_MAX long. */
  readonly keys: BigUint64Array;
  /** Hashes the first `blocks` blocks in `tokens` to `keys`, from `at` on; `parent`: the key before. */
  hash(parent: bigint, blocks: number, blockSizeTokens: number, at: number): void;
}

/** Exports of wasm/block-keys.ts. */
interface BlockKeysWasm {
  readonly memory: OwnMemory;
  readonly TOKENS_AT: { readonly value: number };
  readonly KEYS_AT: { readonly value: number };
  chain(parent: bigint, blocks: number, blockTokens: number, seed: bigint, at: number): void;
}

/** Cost: 11 ns per 16-token block, 40 ns for a chain of one. Throws without the .wasm file. */
export function wasmChainCore(seed: bigint): ChainCore {
  const { memory, TOKENS_AT, KEYS_AT, chain } = instantiateWasm<BlockKeysWasm>("block-keys");
  copiedFrom(memory);
  return {
    tokens: new Uint32Array(memory.buffer, TOKENS_AT.value, CORE_TOKENS_MAX),
    keys: new BigUint64Array(memory.buffer, KEYS_AT.value, CORE_KEYS_MAX),
    hash: (parent, blocks, blockSizeTokens, at): void =>
      chain(parent, blocks, blockSizeTokens, seed, at),
  };
}

/** Cost: 100 to 150 ns per 16-token block. */
export function xxhashChainCore({ h64Raw }: XXHashAPI, seed: bigint): ChainCore {
  const tokens = new Uint32Array(CORE_TOKENS_MAX);
  const keys = new BigUint64Array(CORE_KEYS_MAX);
  // Views of one block, kept from call to call: making them costs more than hashing it.
  let bytes = new Uint8Array(0);
  let parentView = new DataView(bytes.buffer);
  return {
    tokens,
    keys,
    hash: (parent, blocks, blockSizeTokens, at): void => {
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
        keys[at + block] = key;
      }
    },
  };
}
