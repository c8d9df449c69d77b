/**
 * The msgpack payload that vLLM and SGLang share: `[ts, events, data_parallel_rank?]`.
 *
 * An event is an array with its tag first (trailing fields optional) or a map tagged by "type"; both
 * may stand in one batch. Fields that are unknown, or whose names are no text, are passed over.
 */
import { RANK_MAX } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import {
  isCount,
  readCount,
  readExtraKeys,
  readHash,
  readId,
  readInteger,
  readNullable,
  readString,
} from "./event-fields.ts";
import { type DecodeRefusal, openMsgpack, tooManyEvents, tooMuchMemory } from "./event-payload.ts";
import {
  type BlockRemoved,
  type BlockStored,
  type KvEvent,
  type KvEventBatch,
  MALFORMED_EVENT,
  type SentStore,
  UNKNOWN_TAG_EVENT,
} from "./kv-event.ts";
import type { MsgpackReader } from "./msgpack-reader.ts";

/** Unix seconds that a Date can hold. */
export const TS_MAX = 8_640_000_000_000;

/** Heap bytes of an event beside what its fields take, and of its place in the batch. */
const EVENT_BYTES = 160;

/** The fields of both engines: a capture does not say whose it is. */
const FIELDS = [
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
  "cache_salt",
] as const;
export type FieldName = (typeof FIELDS)[number];

/** Field order of the engine's array form, "type" first; later versions append. Null: of no meaning here. */
export interface BatchForm {
  readonly storedFields: readonly (FieldName | null)[];
  readonly removedFields: readonly (FieldName | null)[];
}

const textsOf = (names: readonly string[]): Uint8Array[] => names.map((name) => Buffer.from(name));
const FIELD_TEXTS = textsOf(FIELDS);
const TAGS = ["BlockStored", "BlockRemoved", "AllBlocksCleared"] as const;
const TAG_TEXTS = textsOf(TAGS);
type Tag = (typeof TAGS)[number];

export function decodeMsgpackBatch(
  payload: Uint8Array,
  form: BatchForm,
): Result<KvEventBatch, DecodeRefusal> {
  const opened = openMsgpack(payload);
  if (!opened.ok) return opened;
  const reader = opened.value;
  const fields = reader.arrayLength();
  if (fields === null) return refused("malformed-batch", "the payload is not an array");
  const ts = fields < 1 ? null : reader.number();
  if (ts === null || !(ts >= 0 && ts <= TS_MAX)) {
    return refused("malformed-batch", `field 0 (ts) is not in 0..${TS_MAX} s`);
  }
  const length = fields < 2 ? null : reader.arrayLength();
  if (length === null) return refused("malformed-batch", "field 1 (events) is not an array");
  const tooMany = tooManyEvents(length);
  if (tooMany !== null) return tooMany;
  const events = decodeEvents(reader, length, form);
  if (events === null) return tooMuchMemory();
  const rank = fields < 3 ? null : reader.scalar();
  if (rank !== null && !isCount(rank, RANK_MAX)) {
    return refused("malformed-batch", `field 2 (data_parallel_rank) is not in 0..${RANK_MAX}`);
  }
  return ok({ ts, rank, events });
}

/** Null: they take too much memory. */
function decodeEvents(reader: MsgpackReader, length: number, form: BatchForm): KvEvent[] | null {
  const events: KvEvent[] = [];
  const event = new EventReader(reader, form);
  for (let position = 0; position < length; position += 1) {
    events.push(event.next());
    if (!reader.spend(EVENT_BYTES)) return null;
  }
  return events;
}

/** Reads one event after the other: first where its fields are, then those that it needs. */
class EventReader {
  readonly #reader: MsgpackReader;
  readonly #form: BatchForm;
  /** Where each of FIELDS begins; 0: it is absent. */
  readonly #places = new Uint32Array(FIELDS.length);

  constructor(reader: MsgpackReader, form: BatchForm) {
    this.#reader = reader;
    this.#form = form;
  }

  /** Passes one event. */
  next(): KvEvent {
    const reader = this.#reader;
    const start = reader.at;
    reader.skip();
    const end = reader.at;
    reader.at = start;
    const event = this.#event();
    reader.at = end;
    return event;
  }

  #event(): KvEvent {
    switch (this.#find()) {
      case "BlockStored":
        return this.#stored() ?? MALFORMED_EVENT;
      case "BlockRemoved":
        return this.#removed() ?? MALFORMED_EVENT;
      case "AllBlocksCleared":
        return { type: "cleared" };
      case "unknown":
        return UNKNOWN_TAG_EVENT;
      case null:
        return MALFORMED_EVENT;
    }
  }

  /** Finds the places of the fields, and returns the tag; null: it has none. */
  #find(): Tag | "unknown" | null {
    const reader = this.#reader;
    this.#places.fill(0);
    const length = reader.arrayLength();
    if (length === null) return this.#findByName();
    if (length === 0) return null;
    const tag = this.#tagAt(reader.at);
    const names = tag === "BlockStored" ? this.#form.storedFields : this.#form.removedFields;
    for (let position = 1; position < Math.min(length, names.length); position += 1) {
      const name = names[position];
      if (name) this.#places[FIELDS.indexOf(name)] = reader.at;
      reader.skip();
    }
    return tag;
  }

  #findByName(): Tag | "unknown" | null {
    const reader = this.#reader;
    const length = reader.mapLength();
    for (let field = 0; field < (length ?? 0); field += 1) {
      const known = reader.text(FIELD_TEXTS);
      if (known !== -1) this.#places[known] = reader.at;
      reader.skip();
    }
    return this.#seek("type") ? this.#tagAt(reader.at) : null;
  }

  /** Passes the value there. */
  #tagAt(at: number): Tag | "unknown" | null {
    const reader = this.#reader;
    reader.at = at;
    const tag = TAGS[reader.text(TAG_TEXTS)];
    if (tag !== undefined) return tag;
    const end = reader.at;
    reader.at = at;
    const isText = typeof reader.scalar() === "string";
    reader.at = end;
    return isText ? "unknown" : null;
  }

  /** Null: a bad field. */
  #stored(): KvEvent | null {
    const reader = this.#reader;
    const handles = this.#seek("block_hashes") ? reader.hashes() : undefined;
    const parent = readNullable(this.#scalar("parent_block_hash"), readHash);
    const medium = readNullable(this.#scalar("medium"), readString);
    const loraName = readNullable(this.#scalar("lora_name"), readString);
    const sentLoraId = readNullable(this.#scalar("lora_id"), readInteger);
    const sentGroup = readNullable(this.#scalar("group_idx"), readInteger);
    const specKind = readNullable(this.#scalar("kv_cache_spec_kind"), readString);
    const cacheSalt = readNullable(this.#scalar("cache_salt"), readString);
    const extras = this.#seek("extra_keys") ? reader.value() : null;
    const extraKeys = readNullable(extras, readExtraKeys);
    if (
      handles === undefined ||
      parent === undefined ||
      medium === undefined ||
      loraName === undefined ||
      sentLoraId === undefined ||
      sentGroup === undefined ||
      specKind === undefined ||
      cacheSalt === undefined ||
      extraKeys === undefined
    ) {
      return null;
    }
    const blockSizeTokens = this.#scalar("block_size");
    const loraId = readNullable(sentLoraId, readId);
    const group = readNullable(sentGroup, readCount);
    const list = this.#seek("token_ids") ? reader.tokens() : undefined;
    const isSize = isCount(blockSizeTokens, BLOCK_SIZE_TOKENS_MAX);
    if (list === undefined || loraId === undefined || group === undefined || !isSize) {
      const identity = { loraName, loraId: sentLoraId, extraKeys, group: sentGroup, specKind };
      return this.#outOfRange({ handles, parent, medium, ...identity }, blockSizeTokens);
    }
    const stored: BlockStored = {
      type: "stored",
      handles,
      parent,
      tokens: list.tokens,
      blockSizeTokens,
      medium,
      loraName,
      loraId,
      extraKeys,
      group,
      specKind,
    };
    const isSalted = cacheSalt !== null && cacheSalt !== "";
    if (!isSalted && !list.arePairs) return stored;
    return {
      ...stored,
      ...(isSalted ? { cacheSalt } : {}),
      ...(list.arePairs ? { caveat: "token-pairs" } : {}),
    };
  }

  /** A store whose numbers are integers at least; null: they are not. */
  #outOfRange(
    told: Omit<SentStore, "tokens" | "blockSizeTokens">,
    blockSizeTokens: unknown,
  ): KvEvent | null {
    const tokens = this.#seek("token_ids") ? this.#reader.integers() : undefined;
    const size = readInteger(blockSizeTokens);
    if (tokens === undefined || size === undefined) return null;
    const sent = { ...told, tokens, blockSizeTokens: size };
    return { type: "skipped", reason: "malformed-event", sent };
  }

  #removed(): BlockRemoved | null {
    const handles = this.#seek("block_hashes") ? this.#reader.hashes() : undefined;
    const medium = readNullable(this.#scalar("medium"), readString);
    const group = readNullable(this.#scalar("group_idx"), readCount);
    if (handles === undefined || medium === undefined || group === undefined) return null;
    return { type: "removed", handles, medium, group };
  }

  /** Null: it is absent, or nil. */
  #scalar(name: FieldName): unknown {
    return this.#seek(name) ? this.#reader.scalar() : null;
  }

  /** Goes to a field; false: it is absent. */
  #seek(name: FieldName): boolean {
    const at = this.#places[FIELDS.indexOf(name)] ?? 0;
    if (at !== 0) this.#reader.at = at;
    return at !== 0;
  }
}
