/**
 * The msgpack payload that vLLM and SGLang share: `[ts, events, data_parallel_rank?]`.
 *
 * An event is an array with its tag first (trailing fields optional) or a map tagged by "type"; both
 * may stand in one batch, unknown fields are ignored.
 */
import { RANK_MAX } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import {
  type Fields,
  isCount,
  isFields,
  readCount,
  readExtraKeys,
  readHash,
  readHashes,
  readId,
  readNullable,
  readString,
  readTokens,
} from "./event-fields.ts";
import { type DecodeRefusal, readMsgpack, tooManyEvents } from "./event-payload.ts";
import {
  type BlockRemoved,
  type BlockStored,
  type KvEvent,
  type KvEventBatch,
  MALFORMED_EVENT,
  UNKNOWN_TAG_EVENT,
} from "./kv-event.ts";

/** Unix seconds that a Date can hold. */
export const TS_MAX = 8_640_000_000_000;

/** Field order of the engine's array form, "type" first; later versions append. */
export interface BatchForm {
  readonly storedFields: readonly string[];
  readonly removedFields: readonly string[];
}

export function decodeMsgpackBatch(
  payload: Uint8Array,
  form: BatchForm,
): Result<KvEventBatch, DecodeRefusal> {
  const read = readMsgpack(payload);
  if (!read.ok) return read;
  const batch = read.value;
  if (!Array.isArray(batch)) return refused("malformed-batch", "the payload is not an array");
  const [ts, events, rank] = batch as readonly unknown[];
  if (typeof ts !== "number" || !(ts >= 0 && ts <= TS_MAX)) {
    return refused("malformed-batch", `field 0 (ts) is not in 0..${TS_MAX} s`);
  }
  if (!Array.isArray(events)) return refused("malformed-batch", "field 1 (events) is not an array");
  const tooMany = tooManyEvents(events.length);
  if (tooMany !== null) return tooMany;
  const isRankAbsent = rank === undefined || rank === null;
  if (!isRankAbsent && !isCount(rank, RANK_MAX)) {
    return refused("malformed-batch", `field 2 (data_parallel_rank) is not in 0..${RANK_MAX}`);
  }
  const decoded = events.map((event) => decodeEvent(event, form));
  return ok({ ts, rank: isRankAbsent ? null : rank, events: decoded });
}

function decodeEvent(event: unknown, form: BatchForm): KvEvent {
  const tag = tagOf(event);
  if (tag === "AllBlocksCleared") return { type: "cleared" };
  if (tag !== "BlockStored" && tag !== "BlockRemoved") {
    return tag === null ? MALFORMED_EVENT : UNKNOWN_TAG_EVENT;
  }
  const decoded =
    tag === "BlockStored"
      ? decodeStored(fieldsOf(event, form.storedFields))
      : decodeRemoved(fieldsOf(event, form.removedFields));
  return decoded ?? MALFORMED_EVENT;
}

function tagOf(event: unknown): string | null {
  const tag = Array.isArray(event) ? event[0] : isFields(event) ? event["type"] : null;
  return typeof tag === "string" ? tag : null;
}

function fieldsOf(event: unknown, names: readonly string[]): Fields {
  if (!Array.isArray(event)) return isFields(event) ? event : {};
  const fields: Record<string, unknown> = {};
  for (const [position, name] of names.entries()) fields[name] = event[position];
  return fields;
}

/** The fields of both engines by their names: a capture does not say whose it is. Null: a bad one. */
function decodeStored(fields: Fields): BlockStored | null {
  const firsts = firstsOfPairs(fields["token_ids"]);
  const tokens = readTokens(firsts ?? fields["token_ids"]);
  const cacheSalt = readNullable(fields["cache_salt"], readString);
  const handles = readHashes(fields["block_hashes"]);
  const parent = readNullable(fields["parent_block_hash"], readHash);
  const blockSizeTokens = fields["block_size"];
  const medium = readNullable(fields["medium"], readString);
  const loraName = readNullable(fields["lora_name"], readString);
  const loraId = readNullable(fields["lora_id"], readId);
  const group = readNullable(fields["group_idx"], readCount);
  const specKind = readNullable(fields["kv_cache_spec_kind"], readString);
  const extraKeys = readNullable(fields["extra_keys"], readExtraKeys);
  if (
    tokens === undefined ||
    cacheSalt === undefined ||
    handles === undefined ||
    parent === undefined ||
    !isCount(blockSizeTokens, BLOCK_SIZE_TOKENS_MAX) ||
    medium === undefined ||
    loraName === undefined ||
    loraId === undefined ||
    group === undefined ||
    specKind === undefined ||
    extraKeys === undefined
  ) {
    return null;
  }
  const type = "stored";
  const identity = { loraName, loraId, extraKeys, group, specKind };
  return {
    ...{ type, handles, parent, tokens, blockSizeTokens, medium, ...identity },
    ...(cacheSalt === null || cacheSalt === "" ? {} : { cacheSalt }),
    ...(firsts === null ? {} : { caveat: "token-pairs" }),
  };
}

/** Null when the list is not of pairs throughout. */
function firstsOfPairs(value: unknown): unknown[] | null {
  if (!Array.isArray(value) || value.length === 0 || !value.every(isPair)) return null;
  return value.map(([first]) => first);
}

function isPair(value: unknown): value is readonly [unknown, unknown] {
  return Array.isArray(value) && value.length === 2;
}

function decodeRemoved(fields: Fields): BlockRemoved | null {
  const handles = readHashes(fields["block_hashes"]);
  const medium = readNullable(fields["medium"], readString);
  const group = readNullable(fields["group_idx"], readCount);
  if (handles === undefined || medium === undefined || group === undefined) return null;
  return { type: "removed", handles, medium, group };
}
