/**
 * Keyed batches as bytes of one log message: msgpack `[version, endpoint, batches]`, where a batch is
 * `[rank, model, epoch, seq, engineMs, events]`. Handles and keys are u64 little endian in byte strings.
 *
 * Log messages are hostile input like any other: decoding never throws.
 */
import { Decoder, Encoder } from "@msgpack/msgpack";
import { z } from "zod";
import { messageOf } from "../core/errors.ts";
import {
  blockKey,
  type EndpointId,
  endpointId,
  engineKey,
  isEndpointAddress,
  RANK_MAX,
} from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import { TIERS } from "../tiers/tier.ts";
import { type KeyedBatch, type KeyedEvent, LOSS_REASONS } from "./keyed-batch.ts";
import { msgpackShapeProblem } from "./msgpack-shape.ts";

const VERSION = 1;
/** Bytes of one log message, below NATS's default max_payload of 1 MiB. */
export const LOG_MESSAGE_BYTES_MAX = 1_000_000;
/** Message, batches, batch, events, event. */
const DEPTH_MAX = 5;

const wordsSchema = z
  .instanceof(Uint8Array)
  .refine((bytes) => bytes.length % 8 === 0, "not a whole number of u64")
  .transform((bytes) => new BigUint64Array(new Uint8Array(bytes).buffer));

const eventSchema = z.union([
  z
    .tuple([
      z.literal("stored"),
      z.enum(TIERS),
      wordsSchema,
      wordsSchema,
      z.int().min(0).max(BLOCK_SIZE_TOKENS_MAX),
    ])
    .refine(([, , handles, keys]) => handles.length === keys.length, "handles and keys differ")
    .transform(
      ([type, tier, handles, keys, blockSizeTokens]): KeyedEvent => ({
        type,
        tier,
        handles,
        keys,
        blockSizeTokens,
      }),
    ),
  z
    .tuple([z.literal("removed"), z.enum(TIERS), wordsSchema])
    .transform(([type, tier, handles]): KeyedEvent => ({ type, tier, handles })),
  z
    .tuple([z.literal("rekeyed"), wordsSchema])
    .refine(([, words]) => words.length === 2, "not a handle and a key")
    .transform(
      ([type, [handle = 0n, key = 0n]]): KeyedEvent => ({
        type,
        handle: engineKey(handle),
        key: blockKey(key),
      }),
    ),
  z.tuple([z.literal("cleared")]).transform(([type]): KeyedEvent => ({ type })),
  z
    .tuple([z.literal("lost"), z.enum(LOSS_REASONS)])
    .transform(([type, reason]): KeyedEvent => ({ type, reason })),
]);

const messageSchema = z.tuple([
  z.literal(VERSION),
  z.string().refine(isEndpointAddress, "not host:port"),
  z.array(
    z.tuple([
      z.int().min(0).max(RANK_MAX),
      z.string(),
      z.int().min(1),
      z.int().min(-1),
      z.number().min(0),
      z.array(eventSchema),
    ]),
  ),
]);

const encoder = new Encoder();
const decoder = new Decoder({ maxArrayLength: 1_048_576, maxMapLength: 0, maxExtLength: 0 });

/** Encodes batches of one endpoint; the caller keeps their sum below LOG_MESSAGE_BYTES_MAX. */
export function encodeKeyedBatches(
  endpoint: EndpointId,
  batches: readonly KeyedBatch[],
): Uint8Array {
  return encoder.encode([
    VERSION,
    endpoint,
    batches.map(({ holder, model, epoch, seq, engineMs, events }) => [
      holder.rank,
      model,
      epoch,
      seq,
      engineMs,
      events.map(eventFields),
    ]),
  ]);
}

/** Upper bound of a batch's encoded bytes. */
export function encodedBytesMax(batch: KeyedBatch): number {
  return batch.events.reduce(
    (bytes, event) => {
      const handles =
        event.type === "stored" || event.type === "removed" ? event.handles.length : 0;
      return bytes + 64 + 16 * handles;
    },
    64 + batch.model.length * 4,
  );
}

export function decodeKeyedBatches(
  data: Uint8Array,
): Result<KeyedBatch[], "malformed-log-message"> {
  const problem = msgpackShapeProblem(data, { depthMax: DEPTH_MAX });
  if (problem !== null) return refused("malformed-log-message", problem);
  let fields: unknown;
  try {
    fields = decoder.decode(data);
  } catch (error) {
    return refused("malformed-log-message", messageOf(error));
  }
  const message = messageSchema.safeParse(fields);
  if (!message.success) return refused("malformed-log-message", z.prettifyError(message.error));
  const [, endpoint, batches] = message.data;
  return ok(
    batches.map(([rank, model, epoch, seq, engineMs, events]) => ({
      holder: { endpointId: endpointId(endpoint), rank },
      model,
      epoch,
      seq,
      engineMs,
      events,
    })),
  );
}

function eventFields(event: KeyedEvent): unknown[] {
  switch (event.type) {
    case "stored":
      return [
        "stored",
        event.tier,
        bytesOf(event.handles),
        bytesOf(event.keys),
        event.blockSizeTokens,
      ];
    case "removed":
      return ["removed", event.tier, bytesOf(event.handles)];
    case "rekeyed":
      return ["rekeyed", bytesOf(BigUint64Array.of(event.handle, event.key))];
    case "cleared":
      return ["cleared"];
    case "lost":
      return ["lost", event.reason];
  }
}

function bytesOf(words: BigUint64Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
