/** A message's bytes -> one msgpack or JSON value, within bounds; what both have in common. */
import { ok, type Result, refused } from "../core/result.ts";
import { parseJson } from "./json-values.ts";
import { EVENTS_MAX } from "./kv-event.ts";
import { MsgpackReader } from "./msgpack-reader.ts";
import { msgpackEnd } from "./msgpack-shape.ts";

/** Bytes of one message; a step that stores a million tokens stays below. */
export const PAYLOAD_BYTES_MAX = 16_777_216;
/** Bytes of one JSON message; TensorRT-LLM's answers, many messages at once, have PAYLOAD_BYTES_MAX. */
export const JSON_BYTES_MAX = 2_097_152;
/** Heap bytes that reading a msgpack message takes: 2.6 million tokens, or EVENTS_MAX small events. */
export const VALUES_BYTES_MAX = 10_485_760;
/** The same of JSON for each of its bytes: three times what objects of a token each take. */
const JSON_VALUES_PER_BYTE = 3;
/** Nesting that is read; vLLM's deepest is batch, events, event, extra_keys, block, pair: 6. */
const DEPTH_MAX = 32;

/**
 * - oversized: over PAYLOAD_BYTES_MAX, JSON_BYTES_MAX, VALUES_BYTES_MAX or EVENTS_MAX
 * - not-msgpack: bytes that are no msgpack value, or one with absurd lengths
 * - not-json: bytes that are no JSON text, or one nested too deep
 * - malformed-batch: a value of another shape
 */
export type DecodeRefusal = "oversized" | "not-msgpack" | "not-json" | "malformed-batch";

/** One value to be read part by part; its reader tells when VALUES_BYTES_MAX is reached. */
export function openMsgpack(payload: Uint8Array): Result<MsgpackReader, DecodeRefusal> {
  if (payload.length > PAYLOAD_BYTES_MAX) return oversized(payload, PAYLOAD_BYTES_MAX);
  const end = msgpackEnd(payload, { depthMax: DEPTH_MAX });
  if (!end.ok) return end;
  if (end.value < payload.length) {
    return refused("not-msgpack", `a value of ${end.value} bytes, and more behind it`);
  }
  return ok(new MsgpackReader(payload, VALUES_BYTES_MAX));
}

/** As MsgpackReader.value. */
export function readMsgpack(payload: Uint8Array): Result<unknown, DecodeRefusal> {
  const opened = openMsgpack(payload);
  if (!opened.ok) return opened;
  const value = opened.value.value();
  return opened.value.isSpent ? tooMuchMemory() : ok(value);
}

export function tooMuchMemory(): Result<never, "oversized"> {
  return refused("oversized", `values of over ${VALUES_BYTES_MAX} bytes of memory`);
}

/**
 * Integers of 16 digits and more come as the marked strings of json-values.ts, other numbers than
 * integers as objects without fields. Default of `bytesMax`:
 * JSON_BYTES_MAX.
 */
export function readJson(
  payload: Uint8Array,
  bytesMax: number = JSON_BYTES_MAX,
): Result<unknown, DecodeRefusal> {
  if (payload.length > bytesMax) return oversized(payload, bytesMax);
  const heapBytesMax = JSON_VALUES_PER_BYTE * bytesMax;
  return parseJson(payload, { depthMax: DEPTH_MAX, heapBytesMax });
}

/** Null: no more than EVENTS_MAX. */
export function tooManyEvents(events: number): Result<never, "oversized"> | null {
  return events > EVENTS_MAX ? refused("oversized", `${events} events, limit ${EVENTS_MAX}`) : null;
}

function oversized(payload: Uint8Array, bytesMax: number): Result<never, "oversized"> {
  return refused("oversized", `${payload.length} bytes, limit ${bytesMax}`);
}
