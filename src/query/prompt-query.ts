/** Bytes of a query -> the prompt that they ask for. Never throws, copies each list once. */
import { ok, type Result, refused } from "../core/result.ts";
import type { PromptQuery } from "./index-queries.ts";

/** Tokens of one query, or of the blocks that its keys stand for. */
export const QUERY_TOKENS_MAX = 1_048_576;
/** Bytes of a list of tokens or keys: the longest prompt's keys, at one token a block. */
export const QUERY_BODY_BYTES_MAX = 8_388_608;
/** Tokens of a block. */
const QUERY_BLOCK_TOKENS_MAX = 4096;
/** Characters of an adapter's name, and of a salt. */
const QUERY_TEXT_CHARS_MAX = 1024;

const TOKEN_BYTES = 4;
const KEY_BYTES = 8;

export type QueryRefusal =
  | "no-prompt"
  | "malformed-tokens"
  | "malformed-keys"
  | "block-size"
  | "too-many-tokens"
  | "text-too-long";

type Parsed = Result<PromptQuery, QueryRefusal>;

/** `bytes`: u32 little endian each. */
export function tokensQuery(
  bytes: Uint8Array,
  { lora, cacheSalt }: { readonly lora: string; readonly cacheSalt: string },
): Parsed {
  if (bytes.length % TOKEN_BYTES !== 0) {
    return refused("malformed-tokens", `${bytes.length} bytes are no list of 4-byte token ids`);
  }
  const tokens = bytes.length / TOKEN_BYTES;
  if (tokens > QUERY_TOKENS_MAX) return tooMany(tokens);
  if (Math.max(lora.length, cacheSalt.length) > QUERY_TEXT_CHARS_MAX) {
    return refused("text-too-long", `adapter or salt is over ${QUERY_TEXT_CHARS_MAX} characters`);
  }
  return ok({
    kind: "tokens",
    tokens: new Uint32Array(aligned(bytes)),
    lora: lora === "" ? null : lora,
    cacheSalt: cacheSalt === "" ? null : cacheSalt,
  });
}

/** `bytes`: u64 little endian each. */
export function keysQuery(bytes: Uint8Array, blockSizeTokens: number): Parsed {
  if (bytes.length % KEY_BYTES !== 0) {
    return refused("malformed-keys", `${bytes.length} bytes are no list of 8-byte keys`);
  }
  if (!(blockSizeTokens >= 1 && blockSizeTokens <= QUERY_BLOCK_TOKENS_MAX)) {
    return refused("block-size", `${blockSizeTokens} is not from 1 to ${QUERY_BLOCK_TOKENS_MAX}`);
  }
  const tokens = (bytes.length / KEY_BYTES) * blockSizeTokens;
  if (tokens > QUERY_TOKENS_MAX) return tooMany(tokens);
  return ok({ kind: "keys", keys: new BigUint64Array(aligned(bytes)), blockSizeTokens });
}

/** Null: the bytes are not one key. */
export function keyOf(bytes: Uint8Array): bigint | null {
  return bytes.length === KEY_BYTES ? (new BigUint64Array(aligned(bytes))[0] ?? null) : null;
}

/** A copy that begins at an address of its own. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}

function tooMany(tokens: number): Parsed {
  return refused("too-many-tokens", `${tokens} tokens are over ${QUERY_TOKENS_MAX}`);
}
