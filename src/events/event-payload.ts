/** A message's bytes -> one msgpack or JSON value, within bounds; what both have in common. */
import { Decoder } from "@msgpack/msgpack";
import { messageOf } from "../core/errors.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { parseJson } from "./json-values.ts";
import { EVENT_TOKENS_MAX } from "./kv-event.ts";
import { msgpackShapeProblem } from "./msgpack-shape.ts";

/** Bytes of one message; a step that stores a million tokens stays below. */
export const PAYLOAD_BYTES_MAX = 16_777_216;
/** Nesting that is read; vLLM's deepest is batch, events, event, extra_keys, block, pair: 6. */
const DEPTH_MAX = 32;

/**
 * - oversized: over PAYLOAD_BYTES_MAX
 * - not-msgpack: bytes that are no msgpack value, or one with absurd lengths
 * - not-json: bytes that are no JSON text, or one nested too deep
 * - malformed-batch: a value of another shape
 */
export type DecodeRefusal = "oversized" | "not-msgpack" | "not-json" | "malformed-batch";

const decoder = new Decoder({
  useBigInt64: true,
  maxArrayLength: EVENT_TOKENS_MAX,
  maxMapLength: 4096,
  maxStrLength: 65_536,
  maxBinLength: 65_536,
  maxExtLength: 65_536,
});

/** 64-bit integers come as bigint. */
export function readMsgpack(payload: Uint8Array): Result<unknown, DecodeRefusal> {
  if (payload.length > PAYLOAD_BYTES_MAX) return oversized(payload);
  const problem = msgpackShapeProblem(payload, { depthMax: DEPTH_MAX });
  if (problem !== null) return refused("not-msgpack", problem);
  try {
    return ok(decoder.decode(payload));
  } catch (error) {
    return refused("not-msgpack", messageOf(error));
  }
}

/** Integers of 16 digits and more come as the marked strings of json-values.ts. */
export function readJson(payload: Uint8Array): Result<unknown, DecodeRefusal> {
  if (payload.length > PAYLOAD_BYTES_MAX) return oversized(payload);
  return parseJson(payload, { depthMax: DEPTH_MAX });
}

function oversized(payload: Uint8Array): Result<never, "oversized"> {
  return refused("oversized", `${payload.length} bytes, limit ${PAYLOAD_BYTES_MAX}`);
}
