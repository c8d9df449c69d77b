/** A message's bytes -> one msgpack or JSON value, within bounds; what both have in common. */
import { Decoder } from "@msgpack/msgpack";
import { messageOf } from "../core/errors.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { parseJson } from "./json-values.ts";
import { EVENTS_MAX } from "./kv-event.ts";
import { msgpackShapeProblem, withoutFloats } from "./msgpack-shape.ts";

/** Bytes of one message; a step that stores a million tokens stays below. */
export const PAYLOAD_BYTES_MAX = 16_777_216;
/** Bytes of one JSON message; TensorRT-LLM's answers, many messages at once, have PAYLOAD_BYTES_MAX. */
export const JSON_BYTES_MAX = 2_097_152;
/** Bytes of one msgpack message with floats beside its time, which no engine sends. */
const FLOATS_BYTES_MAX = 2_097_152;
/** Heap bytes of a message's values before events are made of them: a million tokens. */
export const VALUES_BYTES_MAX = 8_388_608;
/** The same of JSON for each of its bytes: three times what objects of a token each take. */
const JSON_VALUES_PER_BYTE = 3;
/** Nesting that is read; vLLM's deepest is batch, events, event, extra_keys, block, pair: 6. */
const DEPTH_MAX = 32;

/**
 * - oversized: over PAYLOAD_BYTES_MAX, JSON_BYTES_MAX, FLOATS_BYTES_MAX, VALUES_BYTES_MAX or EVENTS_MAX
 * - not-msgpack: bytes that are no msgpack value, or one with absurd lengths
 * - not-json: bytes that are no JSON text, or one nested too deep
 * - malformed-batch: a value of another shape
 */
export type DecodeRefusal = "oversized" | "not-msgpack" | "not-json" | "malformed-batch";

const decoder = new Decoder({
  useBigInt64: true,
  maxArrayLength: VALUES_BYTES_MAX / 8,
  maxMapLength: 4096,
  maxStrLength: 65_536,
  maxBinLength: 65_536,
  maxExtLength: 65_536,
});

/**
 * 64-bit integers come as bigint, floats as objects without a known field: but for that which a batch
 * begins with, its time, no field of an event is one.
 */
export function readMsgpack(payload: Uint8Array): Result<unknown, DecodeRefusal> {
  if (payload.length > PAYLOAD_BYTES_MAX) return oversized(payload, PAYLOAD_BYTES_MAX);
  const limits = { depthMax: DEPTH_MAX, heapBytesMax: VALUES_BYTES_MAX };
  const floatsAt: number[] = [];
  const problem = msgpackShapeProblem(payload, { ...limits, floatsAt });
  if (problem !== null) return refused(problem.reason, problem.detail);
  const others = floatsAt.filter((at) => at !== firstValueAt(payload));
  if (others.length === 0) return decoded(payload);
  // They are replaced in a copy, whose memory has to have a bound.
  if (payload.length > FLOATS_BYTES_MAX) return oversized(payload, FLOATS_BYTES_MAX);
  const bytes = withoutFloats(payload, others);
  const grown = msgpackShapeProblem(bytes, limits);
  return grown === null ? decoded(bytes) : refused(grown.reason, grown.detail);
}

/** Where the first value of an array lies. */
function firstValueAt(payload: Uint8Array): number {
  if (payload[0] === 0xdc) return 3;
  return payload[0] === 0xdd ? 5 : 1;
}

function decoded(bytes: Uint8Array): Result<unknown, DecodeRefusal> {
  try {
    return ok(decoder.decode(bytes));
  } catch (error) {
    return refused("not-msgpack", messageOf(error));
  }
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
