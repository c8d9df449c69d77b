/**
 * SGLang's KV event payloads: events as arrays, one per page (0.5.9), or maps with pages joined (0.5.23).
 *
 * A page is a block here; its size may be 1. `cache_salt` stands on every event of a salted prompt,
 * but only the first block's identity takes it, as in vLLM: later blocks have it through the chain.
 * `session_id` says nothing about content. With EAGLE a token is a pair with the one after it: the
 * first ones are the prompt's tokens, and the event is marked, because the last pair of a block also
 * needs the token behind the block. Source: sglang/srt/disaggregation/kv_events.py.
 */
import type { Result } from "../core/result.ts";
import type { ExtraKey } from "../keys/extra-keys.ts";
import { saltExtras } from "../keys/extra-keys.ts";
import { type Fields, readNullable, readString, readTokens } from "./event-fields.ts";
import type { DecodeRefusal } from "./event-payload.ts";
import type { BlockStored, KvEventBatch } from "./kv-event.ts";
import { type BatchForm, decodeMsgpackBatch, decodeStoredFields } from "./msgpack-batch.ts";

const FORM: BatchForm = {
  storedFields: [
    "type",
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "cache_salt",
    "session_id",
    "lora_name",
  ],
  removedFields: ["type", "block_hashes", "medium"],
  decodeStored,
};

/** Decodes one message; never throws. Events that cannot be used come out as "skipped". */
export function decodeSglangBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  return decodeMsgpackBatch(payload, FORM);
}

function decodeStored(fields: Fields): BlockStored | null {
  const salt = readNullable(fields["cache_salt"], readString);
  const firsts = firstsOfPairs(fields["token_ids"]);
  const tokens = readTokens(firsts ?? fields["token_ids"]);
  const stored = tokens === undefined ? null : decodeStoredFields(fields, tokens);
  if (stored === null || salt === undefined) return null;
  const isSalted = salt !== null && salt !== "" && stored.parent === null;
  const salted = isSalted ? { ...stored, extraKeys: extrasOfFirst(stored, salt) } : stored;
  return firsts === null ? salted : { ...salted, caveat: "token-pairs" };
}

function extrasOfFirst({ handles }: BlockStored, salt: string): (readonly ExtraKey[] | null)[] {
  return Array.from(handles, (_, depth) => (depth === 0 ? saltExtras(salt) : null));
}

/** Null when the list is not of pairs throughout. */
function firstsOfPairs(value: unknown): unknown[] | null {
  if (!Array.isArray(value) || value.length === 0 || !value.every(isPair)) return null;
  return value.map(([first]) => first);
}

function isPair(value: unknown): value is readonly [unknown, unknown] {
  return Array.isArray(value) && value.length === 2;
}
