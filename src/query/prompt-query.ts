/** Bytes of a query -> the prompt that they ask for. Never throws, copies each list once. */
import { ok, type Result, refused } from "../core/result.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import type { PromptQuery } from "./index-queries.ts";

/** Tokens of one query, or of the blocks that its keys stand for. */
export const QUERY_TOKENS_MAX = 1_048_576;
/** Keys of one query: as many as the index looks at. */
export const QUERY_KEYS_MAX = 131_072;
/** Bytes of a list of tokens or keys: the longest prompt's tokens. */
export const QUERY_BODY_BYTES_MAX = 4_194_304;
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
  | "too-many-keys"
  | "text-too-long";

type Parsed = Result<PromptQuery, QueryRefusal>;

/** `bytes`: u32 little endian each. */
export function tokensQuery(
  bytes: Uint8Array,
  { lora, cacheSalt }: { readonly lora: string; readonly cacheSalt: string },
): Parsed {
  if (bytes.length % TOKEN_BYTES !== 0) {
    return refused(
      "malformed-tokens",
      `tokens: ${bytes.length} bytes are no list of 4-byte token ids`,
    );
  }
  const tokens = bytes.length / TOKEN_BYTES;
  if (tokens > QUERY_TOKENS_MAX) return tooMany("tokens", tokens);
  for (const [field, text] of [["lora", lora] as const, ["cache_salt", cacheSalt] as const]) {
    if (text.length <= QUERY_TEXT_CHARS_MAX) continue;
    const detail = `${field}: ${text.length} characters are over ${QUERY_TEXT_CHARS_MAX}`;
    return refused("text-too-long", detail);
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
    return refused("malformed-keys", `keys: ${bytes.length} bytes are no list of 8-byte keys`);
  }
  const isSize = Number.isInteger(blockSizeTokens) && blockSizeTokens >= 1;
  if (!isSize || blockSizeTokens > BLOCK_SIZE_TOKENS_MAX) {
    const expected = `a whole number from 1 to ${BLOCK_SIZE_TOKENS_MAX}`;
    return refused("block-size", `block_size_tokens: ${blockSizeTokens} is not ${expected}`);
  }
  const keys = bytes.length / KEY_BYTES;
  if (keys > QUERY_KEYS_MAX) {
    return refused("too-many-keys", `keys: ${keys} keys are over ${QUERY_KEYS_MAX}`);
  }
  if (keys * blockSizeTokens > QUERY_TOKENS_MAX) return tooMany("keys", keys * blockSizeTokens);
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

function tooMany(field: string, tokens: number): Parsed {
  return refused("too-many-tokens", `${field}: ${tokens} tokens are over ${QUERY_TOKENS_MAX}`);
}
