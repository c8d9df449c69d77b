/**
 * Keyed batches as bytes of one log message: msgpack `[version, endpoint, batches]`, where a batch is
 * `[rank, model, epoch, seq, engineMs, events]`. Handles and keys are u64 little endian in byte strings.
 *
 * Log messages are hostile input like any other: decoding never throws.
 */
import { Decoder, Encoder } from "@msgpack/msgpack";
import { messageOf } from "../core/errors.ts";
import {
  type EndpointId,
  endpointId,
  type Holder,
  isEndpointAddress,
  RANK_MAX,
} from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { Slab } from "../core/slab.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";
import { isLaneName } from "./copy-lanes.ts";
import { type KeyedBatch, type KeyedEvent, LOSS_REASONS } from "./keyed-batch.ts";
import { msgpackEnd } from "./msgpack-shape.ts";

const VERSION = 1;
/** Bytes of one log message, below NATS's default max_payload of 1 MiB. */
export const LOG_MESSAGE_BYTES_MAX = 1_000_000;
/** Message, batches, batch, events, event. */
const DEPTH_MAX = 5;

/** Where handles and keys of all messages lie. */
const slab = new Slab();
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
      const words = event.type === "ambiguous" ? event.keys.length : 0;
      const handles =
        event.type === "stored" || event.type === "removed" ? event.handles.length : 0;
      return bytes + 64 + 8 * words + 16 * handles;
    },
    64 + batch.model.length * 4,
  );
}

export function decodeKeyedBatches(
  data: Uint8Array,
): Result<KeyedBatch[], "malformed-log-message"> {
  const end = msgpackEnd(data, { depthMax: DEPTH_MAX });
  if (!end.ok) return refused("malformed-log-message", end.detail);
  let fields: unknown;
  try {
    fields = decoder.decode(data);
  } catch (error) {
    return refused("malformed-log-message", messageOf(error));
  }
  return readMessage(fields);
}

/**
 * By hand, because a schema library takes longer over a message than all of its blocks take to be
 * applied.
 */
function readMessage(fields: unknown): Result<KeyedBatch[], "malformed-log-message"> {
  if (!isList(fields, 3)) return malformed("the message has not three fields");
  const [version, endpoint, items] = fields;
  if (version !== VERSION) return malformed(`version ${String(version)}, this is ${VERSION}`);
  if (typeof endpoint !== "string" || !isEndpointAddress(endpoint)) {
    return malformed("the endpoint is not host:port");
  }
  if (!Array.isArray(items)) return malformed("the batches are not a list");
  const holders = new Map<number, Holder>();
  const batches: KeyedBatch[] = [];
  for (const item of items as readonly unknown[]) {
    const batch = readBatch(item, (rank) => {
      // One object for each holder: what is kept by it is found without its name.
      const holder = holders.get(rank) ?? { endpointId: endpointId(endpoint), rank };
      holders.set(rank, holder);
      return holder;
    });
    if (typeof batch === "string") return malformed(`batch ${batches.length}: ${batch}`);
    batches.push(batch);
  }
  return ok(batches);
}

/** Or what is wrong. */
function readBatch(item: unknown, holderOf: (rank: number) => Holder): KeyedBatch | string {
  if (!isList(item, 6)) return "not six fields";
  const [rank, model, epoch, seq, engineMs, items] = item;
  if (!isIntegerFrom(rank, 0) || rank > RANK_MAX) return `rank not in 0..${RANK_MAX}`;
  if (typeof model !== "string") return "model is not text";
  if (!isIntegerFrom(epoch, 1)) return "epoch is not a whole number from 1";
  if (!isIntegerFrom(seq, -1)) return "sequence is not a whole number from -1";
  if (typeof engineMs !== "number" || !(engineMs >= 0 && engineMs < Number.POSITIVE_INFINITY)) {
    return "time is not a number from 0";
  }
  if (!Array.isArray(items)) return "events are not a list";
  const events: KeyedEvent[] = [];
  for (const each of items as readonly unknown[]) {
    const event = readEvent(each);
    if (event === null) return `event ${events.length} is none`;
    events.push(event);
  }
  return { holder: holderOf(rank), model, epoch, seq, engineMs, events };
}

function readEvent(item: unknown): KeyedEvent | null {
  if (!Array.isArray(item)) return null;
  const fields = item as readonly unknown[];
  switch (fields[0]) {
    case "stored":
      return readStored(fields);
    case "removed": {
      const [type, tier, words] = fields;
      const handles = readWords(words);
      return fields.length === 3 && isTier(tier) && handles !== null
        ? { type, tier, handles }
        : null;
    }
    case "ambiguous": {
      const [type, words] = fields;
      const keys = readWords(words);
      return fields.length === 2 && keys !== null ? { type, keys } : null;
    }
    case "ignored-group": {
      const [type, group] = fields;
      return fields.length === 2 && isIntegerFrom(group, 0) ? { type, group } : null;
    }
    case "lane": {
      const [type, name] = fields;
      return fields.length === 2 && isLaneName(name) ? { type, name } : null;
    }
    case "aside":
      return fields.length === 1 ? { type: "aside" } : null;
    case "cleared":
      return fields.length === 1 ? { type: "cleared" } : null;
    case "lost": {
      const reason = LOSS_REASONS.find((each) => each === fields[1]);
      return fields.length === 2 && reason !== undefined ? { type: "lost", reason } : null;
    }
    case "catching-up": {
      const [type, isNote] = fields;
      return fields.length === 2 && typeof isNote === "boolean" ? { type, isNote } : null;
    }
    default:
      return null;
  }
}

function readStored(fields: readonly unknown[]): KeyedEvent | null {
  const [, tier, handleBytes, keyBytes, blockSizeTokens] = fields;
  const handles = readWords(handleBytes);
  const keys = readWords(keyBytes);
  if (fields.length !== 5 || !isTier(tier) || handles === null || keys === null) return null;
  if (!isIntegerFrom(blockSizeTokens, 0) || blockSizeTokens > BLOCK_SIZE_TOKENS_MAX) return null;
  if (handles.length !== keys.length) return null;
  return { type: "stored", tier, handles, keys, blockSizeTokens };
}

function readWords(bytes: unknown): BigUint64Array | null {
  if (!(bytes instanceof Uint8Array) || bytes.length % 8 !== 0) return null;
  const words = slab.u64(bytes.length / 8);
  bytesOf(words).set(bytes);
  return words;
}

function isList(value: unknown, length: number): value is readonly unknown[] {
  return Array.isArray(value) && value.length === length;
}

function isIntegerFrom(value: unknown, min: number): value is number {
  return Number.isSafeInteger(value) && typeof value === "number" && value >= min;
}

function isTier(value: unknown): value is Tier {
  return TIERS.some((tier) => tier === value);
}

function malformed(detail: string): Result<KeyedBatch[], "malformed-log-message"> {
  return refused("malformed-log-message", detail);
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
    case "ambiguous":
      return ["ambiguous", bytesOf(event.keys)];
    case "ignored-group":
      return ["ignored-group", event.group];
    case "lane":
      return ["lane", event.name];
    case "aside":
      return ["aside"];
    case "cleared":
      return ["cleared"];
    case "lost":
      return ["lost", event.reason];
    case "catching-up":
      return ["catching-up", event.isNote];
  }
}

function bytesOf(words: BigUint64Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
