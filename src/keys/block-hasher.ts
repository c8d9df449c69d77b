/**
 * Token ids -> block keys: the one place where content becomes a key, used by both paths.
 *
 * A block's key is XXH64(tokens as u32 little endian, then the parent's key as u64 little endian);
 * the first block's parent is the root key of its namespace. Extras (salt, images) are folded into
 * the parent first. Parent last keeps the hash of neighbouring blocks independent up to the tail.
 * Source of XXH64: xxhash-wasm. Cost: about 150 ns per 16-token block.
 */
import xxhash from "xxhash-wasm";
import { assert } from "../core/assert.ts";
import { type BlockKey, blockKey } from "../core/ids.ts";
import type { Namespace } from "./namespace.ts";

/** Names the construction in every root, so that a later one cannot meet this one's keys. */
const CONSTRUCTION = "kvatlas-key/1";

export interface ChainInput {
  /** Key of the block before the first one, or the namespace's root. */
  readonly parent: BlockKey;
  readonly tokens: Uint32Array;
  readonly blockSizeTokens: number;
  /** Canonical extras (extra-keys.ts) of each block; null or missing entries mean none. */
  readonly extras?: readonly (string | null)[];
}

export interface BlockHasher {
  /** Parent of a namespace's first blocks. */
  rootKey(namespace: Namespace): BlockKey;
  /** Keys of the full blocks in `tokens`, in order; a partial last block has none. */
  chainKeys(input: ChainInput): BigUint64Array;
}

/** `seed`: of the deployment, 0 to 2^32 - 1; all routers and relays of a fleet share it. */
export async function createBlockHasher(seed: number): Promise<BlockHasher> {
  const { h64Raw } = await xxhash();
  const seed64 = BigInt(seed);
  const encoder = new TextEncoder();

  // Kept from call to call: making three views costs more than hashing a block.
  let input = hashInputOf(0);

  const foldExtras = (parent: bigint, extras: string | null | undefined): bigint =>
    extras === null || extras === undefined ? parent : h64Raw(encoder.encode(extras), parent);

  return {
    rootKey: ({ model, lora, blockSizeTokens }) =>
      blockKey(
        h64Raw(
          encoder.encode(JSON.stringify([CONSTRUCTION, model, lora, blockSizeTokens])),
          seed64,
        ),
      ),
    chainKeys: ({ parent, tokens, blockSizeTokens, extras }): BigUint64Array => {
      assert(blockSizeTokens > 0, "block size must be positive", { blockSizeTokens });
      const blocks = Math.floor(tokens.length / blockSizeTokens);
      const keys = new BigUint64Array(blocks);
      if (input.blockSizeTokens !== blockSizeTokens) input = hashInputOf(blockSizeTokens);
      let previous: bigint = parent;
      let start = 0;
      for (let depth = 0; depth < blocks; depth += 1) {
        for (let at = 0; at < blockSizeTokens; at += 1) input.tokens[at] = tokens[start + at] ?? 0;
        start += blockSizeTokens;
        const folded = extras === undefined ? previous : foldExtras(previous, extras[depth]);
        input.parent.setBigUint64(0, folded, true);
        previous = h64Raw(input.bytes, seed64);
        keys[depth] = previous;
      }
      return keys;
    },
  };
}

/** The bytes that one block is hashed from, and the places in them. */
interface HashInput {
  readonly blockSizeTokens: number;
  readonly bytes: Uint8Array;
  readonly tokens: Uint32Array;
  readonly parent: DataView;
}

function hashInputOf(blockSizeTokens: number): HashInput {
  const bytes = new Uint8Array(blockSizeTokens * 4 + 8);
  const tokens = new Uint32Array(bytes.buffer, 0, blockSizeTokens);
  const parent = new DataView(bytes.buffer, blockSizeTokens * 4, 8);
  return { blockSizeTokens, bytes, tokens, parent };
}
