/**
 * SGLang's KV event payloads: events as arrays, one per page (0.5.9), or maps with pages joined (0.5.23).
 *
 * A page is a block here; its size may be 1. `cache_salt` stands on every event of a salted prompt,
 * but only the first block's identity takes it, as in vLLM: later blocks have it through the chain.
 * `session_id` says nothing about content. With EAGLE a token is a pair with the one after it: the
 * first ones are the prompt's tokens, and the event is marked, because the last pair of a block also
 * needs the token behind the block. Source: sglang/srt/disaggregation/kv_events.py.
 */
import { ok, type Result } from "../core/result.ts";
import type { DecodeRefusal } from "./event-payload.ts";
import { type ArrayForm, scanBatch } from "./event-scan.ts";
import type { KvEventBatch } from "./kv-event.ts";
import { type BatchForm, decodeMsgpackBatch, TS_MAX } from "./msgpack-batch.ts";

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
    null,
    "lora_name",
  ],
  removedFields: ["type", "block_hashes", "medium"],
};

/** What its arrays have in common with vLLM's. */
const ARRAYS: ArrayForm = { storedFieldsMax: 7, removedFieldsMax: 3 };

/** Decodes one message; never throws. Events that cannot be used come out as "skipped". */
export function decodeSglangBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  const batch = scanBatch(payload, ARRAYS, TS_MAX);
  return batch === null ? decodeAnySglangBatch(payload) : ok(batch);
}

/** The general way, which decides about everything that is unusual. */
export function decodeAnySglangBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  return decodeMsgpackBatch(payload, FORM);
}
