/**
 * vLLM's KV event payloads: events as arrays (0.9 to 0.23) or maps (0.24 and later).
 *
 * Hashes are integers of either sign or byte strings, taken as their low 64 bits (a byte string's last
 * 8). Connectors publish in the same stream; which stores are theirs holder-keyer.ts tells. Of blocks in lower tiers vLLM tells neither salt nor
 * images, also where it tells their tokens. Maps of SGLang's, which a capture may hold, are read the
 * same; its arrays (0.5.9) are the beginning of vLLM's. Source: vllm/distributed/kv_events.py,
 * versions 0.9.0 to 0.33.0.
 */
import { ok, type Result } from "../core/result.ts";
import { tierOfMedium } from "../tiers/tier.ts";
import type { DecodeRefusal } from "./event-payload.ts";
import { type ArrayForm, scanBatch } from "./event-scan.ts";
import type { KvEvent, KvEventBatch, StoredCaveat } from "./kv-event.ts";
import { type BatchForm, decodeMsgpackBatch, TS_MAX } from "./msgpack-batch.ts";
import { PlainBatch } from "./plain-batch.ts";

const FORM: BatchForm = {
  storedFields: [
    "type",
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
  ],
  removedFields: ["type", "block_hashes", "medium", "group_idx"],
};

/** Beside FORM's fields, a number that means nothing here (kv_cache_spec_sliding_window). */
const ARRAYS: ArrayForm = { storedFieldsMax: 12, removedFieldsMax: 4 };

/** Decodes one message; never throws. Events that cannot be used come out as "skipped". */
export function decodeVllmBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  const batch = scanBatch(payload, ARRAYS, TS_MAX);
  if (batch === null) return decodeAnyVllmBatch(payload);
  // Of the GPU alone.
  if (batch instanceof PlainBatch) return ok(batch);
  return ok(batch.events.some((event) => caveatOf(event) !== null) ? withCaveats(batch) : batch);
}

/** The general way, which decides about everything that is unusual. */
export function decodeAnyVllmBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  const decoded = decodeMsgpackBatch(payload, FORM);
  return decoded.ok ? ok(withCaveats(decoded.value)) : decoded;
}

function withCaveats(batch: KvEventBatch): KvEventBatch {
  const events = batch.events.map((event) => {
    const caveat = caveatOf(event);
    return caveat === null ? event : { ...event, caveat };
  });
  return { ...batch, events };
}

function caveatOf(event: KvEvent): StoredCaveat | null {
  if (event.type !== "stored" || event.medium === null || event.medium === "GPU") return null;
  const isTold = event.extraKeys !== null || event.cacheSalt !== undefined;
  return isTold || event.tokens.length === 0 || tierOfMedium(event.medium) === "gpu"
    ? null
    : "no-identity";
}
