/**
 * The common forms of vLLM's and SGLang's payloads read straight from their bytes, by WebAssembly
 * (wasm/event-scan/scan.ts), one call for a message.
 *
 * Whatever is unusual (integers of other widths, text that is not ASCII, unknown fields, lists beyond the
 * limits of its memory, anything malformed) gives null, and the general decoder decides: of what is read
 * here it would say the same, unless its values took too much memory. The rest of the write path cannot
 * tell them apart, but for plain messages, most of all, whose events are only made where they are asked
 * for: until the next scan they are keyed where they lie (plain-batch.ts).
 * Cost: 35 ns per block in events of 32, 70 in events of one, 45 and 150 where events are made.
 */
import { assert } from "../core/assert.ts";
import { engineKey, RANK_MAX } from "../core/ids.ts";
import { Slab } from "../core/slab.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import { readExtraKeys } from "./event-fields.ts";
import { readMsgpack } from "./event-payload.ts";
import {
  type BlockRemoved,
  type BlockStored,
  EVENTS_MAX,
  type KvEvent,
  type KvEventBatch,
} from "./kv-event.ts";
import { PlainBatch } from "./plain-batch.ts";
import { BATCH, core, coreViews, HASHES, RECORDS, SCAN_BYTES_MAX, TOKENS } from "./relay-core.ts";

/** Longest arrays of an engine, the tag included: what comes behind is of a later version. */
export interface ArrayForm {
  readonly storedFieldsMax: number;
  readonly removedFieldsMax: number;
}

assert(core.EVENTS_MAX.value === EVENTS_MAX, "wasm/relay-core.ts has another limit of events");

/** Words of a record, wasm/event-scan/layout.ts. */
const RECORD_WORDS = 16;
const STORED = 1;
const REMOVED = 2;
const TOLD_PARENT = 1;
const TOLD_LORA_ID = 2;
const TOLD_GROUP = 4;
const TOLD_NO_EXTRAS = 8;
const TOLD_EXTRAS = 16;
const NO_RANK = 0xffff_ffff;
/** Texts told by their number. */
const KNOWN = [null, "GPU", "CPU", "full_attention"] as const;

/** Of plain events nothing is read there any more. */
const NO_PAYLOAD = new Uint8Array(0);
/** Where the lists of all events lie: tokens apart, because they are done with first. */
const hashSlab = new Slab();
const tokenSlab = new Slab();
/** Extras of as many blocks that have none: one list for all events, which nobody changes. */
const noExtras: (readonly null[])[] = [];
/** Longer ones are made anew. */
const NO_EXTRAS_KEPT = 1024;
/** What extras the last bytes meant: those of an adapter's blocks are all alike. */
const EXTRAS_KEPT_BYTES = 65_536;
let extrasBytes = new Uint8Array(0);
let extrasLast: BlockStored["extraKeys"] = null;

/** Null: not of a common form. `tsMax`: Unix seconds. */
export function scanBatch(
  payload: Uint8Array,
  { storedFieldsMax, removedFieldsMax }: ArrayForm,
  tsMax: number,
): KvEventBatch | null {
  if (payload.length > SCAN_BYTES_MAX) return null;
  PlainBatch.leave();
  const { payload: into, words, batchTs } = coreViews();
  into.set(payload);
  const events = core.scan(payload.length, storedFieldsMax, removedFieldsMax);
  if (events < 0) return null;
  const ts = batchTs[0] ?? 0;
  const told = words[BATCH + 2] ?? 0;
  if (!(ts >= 0 && ts <= tsMax) || (told > RANK_MAX && told !== NO_RANK)) return null;
  const rank = told === NO_RANK ? null : told;
  const runs = words[BATCH + 5] ?? 0;
  if (runs === 0) {
    const made = eventsOf(events, payload);
    return made === null ? null : { ts, rank, events: made };
  }
  const tokens = words[BATCH + 3] ?? 0;
  const hashes = words[BATCH + 4] ?? 0;
  return new PlainBatch({ ts, rank, runs, events, hashes, tokens, make: plainEventsOf });
}

function plainEventsOf(length: number): readonly KvEvent[] {
  return eventsOf(length, NO_PAYLOAD) ?? [];
}

/** The first records as events, their lists as pieces of slabs. */
function eventsOf(length: number, payload: Uint8Array): KvEvent[] | null {
  const { words } = coreViews();
  const tokens = words[BATCH + 3] ?? 0;
  const hashes = words[BATCH + 4] ?? 0;
  let tokensAt = tokenSlab.copy(words, TOKENS, TOKENS + tokens);
  const tokenBuffer = tokenSlab.buffer;
  let hashesAt = hashSlab.copy(words, HASHES, HASHES + 2 * hashes);
  const hashBuffer = hashSlab.buffer;
  const events: KvEvent[] = [];
  for (let event = 0, at = RECORDS; event < length; event += 1, at += RECORD_WORDS) {
    const kind = words[at];
    const eventHashes = words[at + 1] ?? 0;
    const eventTokens = words[at + 2] ?? 0;
    if (kind === STORED) {
      const handles = new BigUint64Array(hashBuffer, hashesAt, eventHashes);
      const stored = storedOf(
        at,
        { handles, tokens: new Uint32Array(tokenBuffer, tokensAt, eventTokens) },
        payload,
      );
      if (stored === null) return null;
      events.push(stored);
    } else if (kind === REMOVED) {
      events.push(removedOf(at, new BigUint64Array(hashBuffer, hashesAt, eventHashes), payload));
    } else events.push({ type: "cleared" });
    hashesAt += 8 * eventHashes;
    tokensAt += 4 * eventTokens;
  }
  return events;
}

/** Null: out of range. */
function storedOf(
  at: number,
  { handles, tokens }: Pick<BlockStored, "handles" | "tokens">,
  payload: Uint8Array,
): BlockStored | null {
  const { words, longs } = coreViews();
  const told = words[at + 4] ?? 0;
  const blockSizeTokens = words[at + 3] ?? 0;
  const extraKeys = extrasAt(at, payload);
  if (blockSizeTokens > BLOCK_SIZE_TOKENS_MAX || extraKeys === undefined) return null;
  const cacheSalt = textAt(at + 11, payload);
  const stored: BlockStored = {
    type: "stored",
    handles,
    parent: (told & TOLD_PARENT) === 0 ? null : engineKey(longs[(at + 12) / 2] ?? 0n),
    tokens,
    blockSizeTokens,
    medium: textAt(at + 8, payload),
    loraName: textAt(at + 9, payload),
    loraId: (told & TOLD_LORA_ID) === 0 ? null : (words[at + 5] ?? 0),
    extraKeys,
    group: (told & TOLD_GROUP) === 0 ? null : (words[at + 6] ?? 0),
    specKind: textAt(at + 10, payload),
  };
  return cacheSalt === null || cacheSalt === "" ? stored : { ...stored, cacheSalt };
}

function removedOf(at: number, handles: BigUint64Array, payload: Uint8Array): BlockRemoved {
  const { words } = coreViews();
  const told = words[at + 4] ?? 0;
  const group = (told & TOLD_GROUP) === 0 ? null : (words[at + 6] ?? 0);
  return { type: "removed", handles, medium: textAt(at + 8, payload), group };
}

/** Undefined: bad ones. */
function extrasAt(at: number, payload: Uint8Array): BlockStored["extraKeys"] | undefined {
  const { words } = coreViews();
  const told = (words[at + 4] ?? 0) & (TOLD_NO_EXTRAS | TOLD_EXTRAS);
  if (told === 0) return null;
  const length = words[at + 7] ?? 0;
  if (told === TOLD_EXTRAS) return extrasOf(payload, length, length + (words[at + 14] ?? 0));
  if (length > NO_EXTRAS_KEPT) return new Array<null>(length).fill(null);
  noExtras[length] ??= new Array<null>(length).fill(null);
  return noExtras[length];
}

/** The extras between these places, by the general decoder where they are others than the last. */
function extrasOf(
  payload: Uint8Array,
  start: number,
  end: number,
): BlockStored["extraKeys"] | undefined {
  if (isAt(payload, start, end, extrasBytes)) return extrasLast;
  // A copy: the socket's bytes do not stay.
  const bytes = new Uint8Array(payload.subarray(start, end));
  const read = readMsgpack(bytes);
  const extras = read.ok ? readExtraKeys(read.value) : undefined;
  if (extras === undefined || bytes.length > EXTRAS_KEPT_BYTES) return extras;
  extrasBytes = bytes;
  extrasLast = extras;
  return extras;
}

function isAt(payload: Uint8Array, start: number, end: number, bytes: Uint8Array): boolean {
  if (end - start !== bytes.length) return false;
  for (let at = 0; at < bytes.length; at += 1) if (payload[start + at] !== bytes[at]) return false;
  return true;
}

/** A word tells the number of a known text, or offset << 8 | length of one in the payload. */
function textAt(at: number, payload: Uint8Array): string | null {
  const told = coreViews().words[at] ?? 0;
  return told < 256 ? (KNOWN[told] ?? null) : asciiAt(payload, told >>> 8, told & 0xff);
}

function asciiAt(payload: Uint8Array, start: number, length: number): string {
  let text = "";
  for (let at = start; at < start + length; at += 1) text += String.fromCharCode(payload[at] ?? 0);
  return text;
}
