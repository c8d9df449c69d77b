/**
 * The common forms of vLLM's and SGLang's payloads read straight from their bytes, by WebAssembly
 * (wasm/event-scan.ts), one call for a message.
 *
 * Whatever is unusual (integers of other widths, text that is not ASCII, unknown fields, lists beyond the
 * limits of its memory, anything malformed) gives null, and the general decoder decides: for what is read
 * here it would say the same. The rest of the write path cannot tell them apart.
 */
import { assert } from "../core/assert.ts";
import { instantiateWasm } from "../core/file-wasm.ts";
import { type EngineKey, engineKey, RANK_MAX } from "../core/ids.ts";
import { Slab } from "../core/slab.ts";
import { U64Cell } from "../indexer/u64-words.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import {
  type BlockRemoved,
  type BlockStored,
  EVENTS_MAX,
  type KvEvent,
  type KvEventBatch,
} from "./kv-event.ts";

/** Bytes of a message that is scanned. */
const SCAN_BYTES_MAX = 4_194_304;
/** Values in all lists of such a message, a hash as four. */
const LISTED_MAX = 1_048_576;

/** Longest arrays of an engine, the tag included: what comes behind is of a later version. */
export interface ArrayForm {
  readonly storedFieldsMax: number;
  readonly removedFieldsMax: number;
}

interface Value {
  readonly value: number;
}

/** Exports of wasm/event-scan.ts. */
interface EventScanWasm {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly SCAN_BYTES_MAX: Value;
  readonly LISTED_MAX: Value;
  readonly EVENTS_MAX: Value;
  readonly BATCH_AT: Value;
  readonly RECORDS_AT: Value;
  readonly TOKENS_AT: Value;
  readonly HASHES_AT: Value;
  readonly PAYLOAD_BYTES_AT: Value;
  scan(bytes: number, storedFields: number, removedFields: number): number;
}

const wasm = instantiateWasm<EventScanWasm>("event-scan");
assert(
  wasm.SCAN_BYTES_MAX.value === SCAN_BYTES_MAX &&
    wasm.LISTED_MAX.value === LISTED_MAX &&
    wasm.EVENTS_MAX.value === EVENTS_MAX,
  "the memory of wasm/event-scan.ts has other limits",
);
const { buffer } = wasm.memory;
const payloadBytes = new Uint8Array(buffer, wasm.PAYLOAD_BYTES_AT.value, SCAN_BYTES_MAX);
const batchTs = new Float64Array(buffer, wasm.BATCH_AT.value, 1);
/** All of the memory; the places below are positions in it. */
const words = new Uint32Array(buffer);
const BATCH = wasm.BATCH_AT.value / 4;
const RECORDS = wasm.RECORDS_AT.value / 4;
const TOKENS = wasm.TOKENS_AT.value / 4;
const HASHES = wasm.HASHES_AT.value / 4;

/** Words of a record, wasm/event-scan/layout.ts. */
const RECORD_WORDS = 16;
const STORED = 1;
const REMOVED = 2;
const TOLD_PARENT = 1;
const TOLD_LORA_ID = 2;
const TOLD_GROUP = 4;
const TOLD_NILS = 8;
const NO_RANK = 0xffff_ffff;
/** Texts told by their number. */
const KNOWN = [null, "GPU", "CPU", "full_attention"] as const;

/** Where the lists of all events lie: tokens apart, because they are done with first. */
const hashSlab = new Slab();
const tokenSlab = new Slab();
const cell = new U64Cell();

/** Null: not of a common form. `tsMax`: Unix seconds. */
export function scanBatch(
  payload: Uint8Array,
  { storedFieldsMax, removedFieldsMax }: ArrayForm,
  tsMax: number,
): KvEventBatch | null {
  if (payload.length > SCAN_BYTES_MAX) return null;
  payloadBytes.set(payload);
  const length = wasm.scan(payload.length, storedFieldsMax, removedFieldsMax);
  if (length < 0) return null;
  const ts = batchTs[0] ?? 0;
  const rank = words[BATCH + 2] ?? 0;
  if (!(ts >= 0 && ts <= tsMax) || (rank > RANK_MAX && rank !== NO_RANK)) return null;
  const events = eventsOf(length, payload);
  return events === null ? null : { ts, rank: rank === NO_RANK ? null : rank, events };
}

/** The first records as events, their lists as pieces of slabs. */
function eventsOf(length: number, payload: Uint8Array): KvEvent[] | null {
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
        handles,
        new Uint32Array(tokenBuffer, tokensAt, eventTokens),
        payload,
      );
      if (stored.blockSizeTokens > BLOCK_SIZE_TOKENS_MAX) return null;
      events.push(stored);
    } else if (kind === REMOVED) {
      events.push(removedOf(at, new BigUint64Array(hashBuffer, hashesAt, eventHashes), payload));
    } else events.push({ type: "cleared" });
    hashesAt += 8 * eventHashes;
    tokensAt += 4 * eventTokens;
  }
  return events;
}

function storedOf(
  at: number,
  handles: BigUint64Array,
  tokens: Uint32Array,
  payload: Uint8Array,
): BlockStored {
  const told = words[at + 4] ?? 0;
  const cacheSalt = textAt(at + 11, payload);
  const stored: BlockStored = {
    type: "stored",
    handles,
    parent: (told & TOLD_PARENT) === 0 ? null : u64At(at + 12),
    tokens,
    blockSizeTokens: words[at + 3] ?? 0,
    medium: textAt(at + 8, payload),
    loraName: textAt(at + 9, payload),
    loraId: (told & TOLD_LORA_ID) === 0 ? null : (words[at + 5] ?? 0),
    extraKeys: (told & TOLD_NILS) === 0 ? null : new Array(words[at + 7]).fill(null),
    group: (told & TOLD_GROUP) === 0 ? null : (words[at + 6] ?? 0),
    specKind: textAt(at + 10, payload),
  };
  return cacheSalt === null || cacheSalt === "" ? stored : { ...stored, cacheSalt };
}

function removedOf(at: number, handles: BigUint64Array, payload: Uint8Array): BlockRemoved {
  const told = words[at + 4] ?? 0;
  const group = (told & TOLD_GROUP) === 0 ? null : (words[at + 6] ?? 0);
  return { type: "removed", handles, medium: textAt(at + 8, payload), group };
}

function u64At(at: number): EngineKey {
  return engineKey(cell.join(words[at] ?? 0, words[at + 1] ?? 0));
}

/** A word tells the number of a known text, or offset << 8 | length of one in the payload. */
function textAt(at: number, payload: Uint8Array): string | null {
  const told = words[at] ?? 0;
  return told < 256 ? (KNOWN[told] ?? null) : asciiAt(payload, told >>> 8, told & 0xff);
}

function asciiAt(payload: Uint8Array, start: number, length: number): string {
  let text = "";
  for (let at = start; at < start + length; at += 1) text += String.fromCharCode(payload[at] ?? 0);
  return text;
}
