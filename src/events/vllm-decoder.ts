/**
 * vLLM's KV event payloads: msgpack `[ts, events, data_parallel_rank?]`.
 *
 * An event is an array with its tag first (0.9 to 0.23, trailing fields optional) or a map tagged by
 * "type" (0.24 and later); both may stand in one batch, unknown fields are ignored. Hashes are
 * integers of either sign or byte strings, taken as their low 64 bits (a byte string's last 8).
 * Source: vllm/distributed/kv_events.py, versions 0.9.0 to 0.33.0.
 */
import { Decoder } from "@msgpack/msgpack";
import { messageOf } from "../core/errors.ts";
import { type EngineKey, engineKey, RANK_MAX } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import type { ExtraKey } from "../keys/extra-keys.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import {
  type BlockRemoved,
  type BlockStored,
  EVENT_TOKENS_MAX,
  type KvEvent,
  type KvEventBatch,
} from "./kv-event.ts";
import { msgpackShapeProblem } from "./msgpack-shape.ts";
import { scanVllmBatch } from "./vllm-scan.ts";

/** Bytes of one message; a step that stores a million tokens stays below. */
export const PAYLOAD_BYTES_MAX = 16_777_216;
/** Nesting that is read; vLLM's deepest is batch, events, event, extra_keys, block, pair: 6. */
const DEPTH_MAX = 32;
/** Unix seconds that a Date can hold. */
const TS_MAX = 8_640_000_000_000;

/**
 * - oversized: over PAYLOAD_BYTES_MAX
 * - not-msgpack: bytes that are no msgpack value, or one with absurd lengths
 * - malformed-batch: msgpack of another shape
 */
export type DecodeRefusal = "oversized" | "not-msgpack" | "malformed-batch";

/** Field order of the array form; later versions append. */
const STORED_FIELDS = [
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
] as const;
const REMOVED_FIELDS = ["type", "block_hashes", "medium", "group_idx"] as const;

type Fields = Readonly<Record<string, unknown>>;

const decoder = new Decoder({
  useBigInt64: true,
  maxArrayLength: EVENT_TOKENS_MAX,
  maxMapLength: 4096,
  maxStrLength: 65_536,
  maxBinLength: 65_536,
  maxExtLength: 65_536,
});

/** Decodes one message; never throws. Events that cannot be used come out as "skipped". */
export function decodeVllmBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  const batch = payload.length > PAYLOAD_BYTES_MAX ? null : scanVllmBatch(payload, TS_MAX);
  return batch === null ? decodeAnyVllmBatch(payload) : ok(batch);
}

/** The general way, which decides about everything that is unusual. */
export function decodeAnyVllmBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  if (payload.length > PAYLOAD_BYTES_MAX) {
    return refused("oversized", `${payload.length} bytes, limit ${PAYLOAD_BYTES_MAX}`);
  }
  const problem = msgpackShapeProblem(payload, { depthMax: DEPTH_MAX });
  if (problem !== null) return refused("not-msgpack", problem);
  let batch: unknown;
  try {
    batch = decoder.decode(payload);
  } catch (error) {
    return refused("not-msgpack", messageOf(error));
  }
  if (!Array.isArray(batch)) return refused("malformed-batch", "the payload is not an array");
  const [ts, events, rank] = batch as readonly unknown[];
  if (typeof ts !== "number" || !(ts >= 0 && ts <= TS_MAX)) {
    return refused("malformed-batch", `field 0 (ts) is not in 0..${TS_MAX} s`);
  }
  if (!Array.isArray(events)) return refused("malformed-batch", "field 1 (events) is not an array");
  const isRankAbsent = rank === undefined || rank === null;
  if (!isRankAbsent && !isCount(rank, RANK_MAX)) {
    return refused("malformed-batch", `field 2 (data_parallel_rank) is not in 0..${RANK_MAX}`);
  }
  return ok({ ts, rank: isRankAbsent ? null : rank, events: events.map(decodeEvent) });
}

function decodeEvent(event: unknown): KvEvent {
  const tag = tagOf(event);
  if (tag === "AllBlocksCleared") return { type: "cleared" };
  if (tag !== "BlockStored" && tag !== "BlockRemoved") {
    return { type: "skipped", reason: tag === null ? "malformed-event" : "unknown-tag" };
  }
  const fields = fieldsOf(event, tag === "BlockStored" ? STORED_FIELDS : REMOVED_FIELDS);
  const decoded = tag === "BlockStored" ? decodeStored(fields) : decodeRemoved(fields);
  return decoded ?? { type: "skipped", reason: "malformed-event" };
}

function tagOf(event: unknown): string | null {
  const tag = Array.isArray(event) ? event[0] : isFields(event) ? event["type"] : null;
  return typeof tag === "string" ? tag : null;
}

function fieldsOf(event: unknown, names: readonly string[]): Fields {
  if (!Array.isArray(event)) return isFields(event) ? event : {};
  return Object.fromEntries(names.map((name, position) => [name, event[position]]));
}

function decodeStored(fields: Fields): BlockStored | null {
  const handles = decodeHashes(fields["block_hashes"]);
  const parent = decodeNullable(fields["parent_block_hash"], decodeHash);
  const tokens = decodeTokens(fields["token_ids"]);
  const blockSizeTokens = fields["block_size"];
  const medium = decodeNullable(fields["medium"], decodeString);
  const loraName = decodeNullable(fields["lora_name"], decodeString);
  const loraId = decodeNullable(fields["lora_id"], decodeCount);
  const group = decodeNullable(fields["group_idx"], decodeCount);
  const specKind = decodeNullable(fields["kv_cache_spec_kind"], decodeString);
  const extraKeys = decodeNullable(fields["extra_keys"], decodeExtraKeys);
  if (
    handles === undefined ||
    parent === undefined ||
    tokens === undefined ||
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
  return { type, handles, parent, tokens, blockSizeTokens, medium, ...identity };
}

function decodeRemoved(fields: Fields): BlockRemoved | null {
  const handles = decodeHashes(fields["block_hashes"]);
  const medium = decodeNullable(fields["medium"], decodeString);
  const group = decodeNullable(fields["group_idx"], decodeCount);
  if (handles === undefined || medium === undefined || group === undefined) return null;
  return { type: "removed", handles, medium, group };
}

/** Undefined means a bad value; an absent or nil field is null. */
function decodeNullable<Value>(
  value: unknown,
  decode: (present: unknown) => Value | undefined,
): Value | null | undefined {
  return value === undefined || value === null ? null : decode(value);
}

function decodeHash(value: unknown): EngineKey | undefined {
  if (typeof value === "bigint") return engineKey(value);
  if (typeof value === "number" && Number.isSafeInteger(value)) return engineKey(BigInt(value));
  if (!(value instanceof Uint8Array) || value.length < 8) return undefined;
  return engineKey(new DataView(value.buffer, value.byteOffset + value.length - 8).getBigUint64(0));
}

function decodeHashes(value: unknown): EngineKey[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const handles: EngineKey[] = [];
  for (const hash of value) {
    const handle = decodeHash(hash);
    if (handle === undefined) return undefined;
    handles.push(handle);
  }
  return handles;
}

function decodeTokens(value: unknown): Uint32Array | undefined {
  if (!Array.isArray(value)) return undefined;
  const tokens = new Uint32Array(value.length);
  for (let position = 0; position < value.length; position += 1) {
    const token: unknown = value[position];
    if (!isCount(token, 0xffff_ffff)) return undefined;
    tokens[position] = token;
  }
  return tokens;
}

function decodeExtraKeys(value: unknown): (readonly ExtraKey[] | null)[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const blocks: (readonly ExtraKey[] | null)[] = [];
  for (const entry of value) {
    if (entry === null) blocks.push(null);
    else if (Array.isArray(entry) && entry.every((extra) => isExtraKey(extra, 0)))
      blocks.push(entry);
    else return undefined;
  }
  return blocks;
}

/** Nesting of extras that is accepted: vLLM's deepest is a pair in a list. */
const EXTRA_DEPTH_MAX = 4;

function isExtraKey(value: unknown, depth: number): value is ExtraKey {
  if (value === null || value instanceof Uint8Array) return true;
  if (Array.isArray(value)) {
    return depth < EXTRA_DEPTH_MAX && value.every((inner) => isExtraKey(inner, depth + 1));
  }
  return typeof value === "string" || typeof value === "number" || typeof value === "bigint";
}

function decodeString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function decodeCount(value: unknown): number | undefined {
  return isCount(value, Number.MAX_SAFE_INTEGER) ? value : undefined;
}

function isCount(value: unknown, max: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max;
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array);
}
