/** KV events as engines mean them, after decoding and before keys: one shape for all engines. */
import type { EngineKey } from "../core/ids.ts";
import type { ExtraKey } from "../keys/extra-keys.ts";
import { tierOfMedium } from "../tiers/tier.ts";

export interface BlockStored {
  readonly type: "stored";
  readonly handles: BigUint64Array;
  /** Null: the first block of a prompt. */
  readonly parent: EngineKey | null;
  /** Tokens of all blocks in order; empty where an engine moves known blocks between tiers. */
  readonly tokens: Uint32Array;
  /** 0 with empty tokens. */
  readonly blockSizeTokens: number;
  readonly medium: string | null;
  readonly loraName: string | null;
  /** A bigint above 2^53. */
  readonly loraId: number | bigint | null;
  /** One entry per block; null when the engine sends none. */
  readonly extraKeys: readonly (readonly ExtraKey[] | null)[] | null;
  /** SGLang: the prompt's salt, on each of its events; absent where none is sent. */
  readonly cacheSalt?: string;
  /** KV-cache group of a hybrid model; null on engines that do not say. */
  readonly group: number | null;
  /** vLLM 0.22 and later: kind of attention of the group. */
  readonly specKind: string | null;
  /** Why the event says less than it seems to; absent on plain ones. */
  readonly caveat?: StoredCaveat;
}

/**
 * - token-pairs: each token was a pair with the next one (EAGLE): the engine's last block also needs
 *   the token behind it, so that a match may be one block too long
 * - no-removals: a connector's store that no removal will follow: nobody knows how long it holds
 * - no-identity: salt and images of the blocks, where they have any, are left out
 */
export type StoredCaveat = "token-pairs" | "no-removals" | "no-identity";

export interface BlockRemoved {
  readonly type: "removed";
  readonly handles: BigUint64Array;
  readonly medium: string | null;
  readonly group: number | null;
}

export interface AllBlocksCleared {
  readonly type: "cleared";
}

/**
 * - unknown-tag: a kind of event that this version does not know
 * - malformed-event: a field of the wrong type or out of range
 */
export type SkipReason = "unknown-tag" | "malformed-event";

/** An event that cannot be used; the others of its batch are. */
export interface SkippedEvent {
  readonly type: "skipped";
  readonly reason: SkipReason;
  /** For people: a store that can be read, with numbers that no index takes; absent on all others. */
  readonly sent?: SentStore;
}

/** A store as it was sent, with integers beyond their range. */
export interface SentStore extends Omit<BlockStored, "type" | NumberField> {
  readonly tokens: readonly (number | bigint)[];
  readonly blockSizeTokens: number | bigint;
  readonly loraId: number | bigint | null;
  readonly group: number | bigint | null;
}
type NumberField = "tokens" | "blockSizeTokens" | "loraId" | "group";

/** One of each serves all: a message may hold EVENTS_MAX of them. */
export const MALFORMED_EVENT: SkippedEvent = { type: "skipped", reason: "malformed-event" };
export const UNKNOWN_TAG_EVENT: SkippedEvent = { type: "skipped", reason: "unknown-tag" };

export type KvEvent = BlockStored | BlockRemoved | AllBlocksCleared | SkippedEvent;

/** One message of an engine: all events of one scheduler step. */
export interface KvEventBatch {
  /** Unix seconds of the engine's clock. */
  readonly ts: number;
  /** Data-parallel rank; null where the engine does not say. */
  readonly rank: number | null;
  readonly events: readonly KvEvent[];
  /** What `batchBytes` gives, where no events were made so far. */
  readonly bytes?: number;
}

/** Memory of an event beside its lists, and of its place in the batch. */
const EVENT_BYTES = 384;
const SLOT_BYTES = 8;
/** Events of one message that are read; a step that evicts 16,000 pages of a token each stays below. */
export const EVENTS_MAX = 16_384;

/** The batch of an engine whose connector never tells of removals; on its GPU are its own blocks. */
export function withoutRemovals(batch: KvEventBatch): KvEventBatch {
  const events = batch.events.map((event): KvEvent => {
    const isOwn = event.type !== "stored" || tierOfMedium(event.medium) === "gpu";
    return isOwn ? event : { ...event, caveat: "no-removals" };
  });
  return { ...batch, events };
}

/** Memory of a decoded batch, bytes, within about a quarter. */
export function batchBytes(batch: KvEventBatch): number {
  if (batch.bytes !== undefined) return batch.bytes;
  let bytes = EVENT_BYTES;
  for (const event of batch.events) {
    bytes += event.type === "skipped" ? SLOT_BYTES : EVENT_BYTES;
    if (event.type === "stored") bytes += 8 * event.handles.length + 4 * event.tokens.length;
    else if (event.type === "removed") bytes += 8 * event.handles.length;
  }
  return bytes;
}

/** The same of plain events, whose lists are so long together. */
export function listedBytes(lists: {
  readonly events: number;
  readonly hashes: number;
  readonly tokens: number;
}): number {
  return EVENT_BYTES * (lists.events + 1) + 8 * lists.hashes + 4 * lists.tokens;
}

/** The event with arrays of its own, to be held: pieces of slabs would keep all of these. */
export function detached<Event extends KvEvent>(event: Event): Event {
  if (event.type === "stored") {
    return { ...event, handles: event.handles.slice(), tokens: event.tokens.slice() };
  }
  return event.type === "removed" ? { ...event, handles: event.handles.slice() } : event;
}
