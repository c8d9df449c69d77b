/**
 * Reads the common forms of vLLM's and SGLang's KV events, AssemblyScript: one call turns a message
 * into a record of words for each event, one array of all token ids and one of all hashes.
 *
 * What is unusual ends the scan, and the general decoder decides (src/events/msgpack-batch.ts), which says
 * the same of what is read here. Nothing is allocated: what does not fit is unusual too. A position goes
 * from reader to reader; once it is BEYOND it stays so, and what is read there means nothing.
 */
import * as layout from "./event-scan/layout";
import { BEYOND, PAYLOAD_AT } from "./event-scan/layout";
import { copyHashes, copyTokens } from "./event-scan/lists";
import { copyArrayLength, copyCount, copyTextLength } from "./event-scan/values";
import * as words from "./event-scan/words";

export const SCAN_BYTES_MAX = layout.SCAN_BYTES_MAX;
export const LISTED_MAX = layout.LISTED_MAX;
export const EVENTS_MAX = layout.EVENTS_MAX;
export const BATCH_AT = layout.BATCH_AT;
export const RECORDS_AT = layout.RECORDS_AT;
export const TOKENS_AT = layout.TOKENS_AT;
export const HASHES_AT = layout.HASHES_AT;
export const PAYLOAD_BYTES_AT = PAYLOAD_AT;

const UNUSUAL: i32 = -1;
const NO_RANK: u32 = 0xffff_ffff;
const NIL: u8 = 0xc0;
/** What a map needs to be an event of its kind. */
const NEEDED_STORED: u32 = words.BLOCK_HASHES | words.TOKEN_IDS | words.BLOCK_SIZE;
const NEEDED_REMOVED: u32 = words.BLOCK_HASHES;
/** A length on its way. */
const LENGTH_AT = memory.data(8, 8);

/** Where the payload ends. */
let end: usize = PAYLOAD_AT;
/** Taken so far. */
let listed: u32 = 0;
let tokens: u32 = 0;
let hashes: u32 = 0;

/**
 * Scans the first `bytes` at PAYLOAD_AT; returns the number of events, or UNUSUAL. A store's array has
 * at most `storedFields`, in vLLM's order, a removal's `removedFields`.
 */
export function scan(bytes: u32, storedFields: u32, removedFields: u32): i32 {
  end = PAYLOAD_AT + bytes;
  listed = tokens = hashes = 0;
  let at = copyArrayLength(PAYLOAD_AT, LENGTH_AT, end);
  const fields = load<u32>(LENGTH_AT);
  if (at > end || (fields != 2 && fields != 3) || load<u8>(at) != 0xcb) return UNUSUAL;
  store<u64>(layout.BATCH_AT, bswap<u64>(load<u64>(at, 1)));
  at = copyArrayLength(at + 9, LENGTH_AT, end);
  const events = load<u32>(LENGTH_AT);
  if (at > end || events > layout.EVENTS_MAX) return UNUSUAL;
  let record = layout.RECORDS_AT;
  for (let event: u32 = 0; event < events; event += 1, record += layout.RECORD_BYTES) {
    clear(record);
    const head = load<u8>(at);
    if ((head & 0xf0) == 0x80) at = scanMap(at + 1, record, head & 0x0f);
    // vLLM's have 16 bits.
    else if (head == 0xde) at = scanMap(at + 3, record, bswap<u16>(load<u16>(at, 1)));
    else at = scanArray(at, record, storedFields, removedFields);
    if (at > end) return UNUSUAL;
  }
  store<u32>(layout.BATCH_AT, NO_RANK, layout.BATCH_RANK);
  if (fields == 3) {
    if (load<u8>(at) == NIL) at += 1;
    else {
      at = copyCount(at, layout.BATCH_AT + layout.BATCH_RANK);
      if (load<u32>(layout.BATCH_AT, layout.BATCH_RANK) == NO_RANK) return UNUSUAL;
    }
  }
  if (at != end) return UNUSUAL;
  store<u32>(layout.BATCH_AT, tokens, layout.BATCH_TOKENS);
  store<u32>(layout.BATCH_AT, hashes, layout.BATCH_HASHES);
  return <i32>events;
}

function clear(record: usize): void {
  const zeros = i32x4.splat(0);
  v128.store(record, zeros);
  v128.store(record, zeros, 16);
  v128.store(record, zeros, 32);
  v128.store(record, zeros, 48);
}

/** The tag first, the fields in their order, later ones left out. */
function scanArray(from: usize, record: usize, storedFields: u32, removedFields: u32): usize {
  let at = copyArrayLength(from, LENGTH_AT, end);
  const fields = load<u32>(LENGTH_AT);
  if (at > end || fields == 0) return BEYOND;
  at = copyKind(at, record);
  const kind = load<u32>(record, layout.KIND);
  if (kind == layout.STORED && fields >= 5 && fields <= storedFields) {
    at = copyHashList(at, record);
    at = copyParent(at, record);
    at = copyTokenList(at, record);
    at = copyCount(at, record + layout.BLOCK_SIZE);
    if (fields > 5) at = copyTold(at, record, layout.LORA_ID, layout.TOLD_LORA_ID);
    if (fields > 6) at = copyText(at, record + layout.MEDIUM);
    if (fields > 7) at = copyText(at, record + layout.LORA_NAME);
    if (fields > 8) at = copyNils(at, record);
    if (fields > 9) at = copyTold(at, record, layout.GROUP, layout.TOLD_GROUP);
    if (fields > 10) at = copyText(at, record + layout.SPEC_KIND);
    if (fields > 11) at = ignore(at);
    return at;
  }
  if (kind == layout.REMOVED && fields >= 2 && fields <= removedFields) {
    at = copyHashList(at, record);
    if (fields > 2) at = copyText(at, record + layout.MEDIUM);
    if (fields > 3) at = copyTold(at, record, layout.GROUP, layout.TOLD_GROUP);
    return at;
  }
  return kind == layout.CLEARED && fields == 1 ? at : BEYOND;
}

/** The fields by their names. Of one that comes twice the general decoder knows which one counts. */
function scanMap(from: usize, record: usize, fields: u32): usize {
  let at = from;
  let seen: u32 = 0;
  for (let field: u32 = 0; field < fields; field += 1) {
    at = copyTextLength(at, LENGTH_AT, end);
    if (at > end) return BEYOND;
    const length = load<u32>(LENGTH_AT);
    const bit = words.fieldOf(at, length);
    if (bit == 0 || (seen & bit) != 0) return BEYOND;
    if (bit != words.IGNORED) seen |= bit;
    at = copyValue(at + length, record, bit);
  }
  const kind = load<u32>(record, layout.KIND);
  const needed = kind == layout.STORED ? NEEDED_STORED : kind == layout.REMOVED ? NEEDED_REMOVED : 0;
  return kind != 0 && (seen & needed) == needed ? at : BEYOND;
}

function copyValue(at: usize, record: usize, field: u32): usize {
  if (field == words.TYPE) return copyKind(at, record);
  if (field == words.BLOCK_HASHES) return copyHashList(at, record);
  if (field == words.PARENT_BLOCK_HASH) return copyParent(at, record);
  if (field == words.TOKEN_IDS) return copyTokenList(at, record);
  if (field == words.BLOCK_SIZE) return copyCount(at, record + layout.BLOCK_SIZE);
  if (field == words.LORA_ID) return copyTold(at, record, layout.LORA_ID, layout.TOLD_LORA_ID);
  if (field == words.MEDIUM) return copyText(at, record + layout.MEDIUM);
  if (field == words.LORA_NAME) return copyText(at, record + layout.LORA_NAME);
  if (field == words.EXTRA_KEYS) return copyNils(at, record);
  if (field == words.GROUP_IDX) return copyTold(at, record, layout.GROUP, layout.TOLD_GROUP);
  if (field == words.SPEC_KIND) return copyText(at, record + layout.SPEC_KIND);
  if (field == words.CACHE_SALT) return copyText(at, record + layout.CACHE_SALT);
  return ignore(at);
}

/** An unknown one is unusual. */
function copyKind(from: usize, record: usize): usize {
  const at = copyTextLength(from, LENGTH_AT, end);
  if (at > end) return BEYOND;
  const length = load<u32>(LENGTH_AT);
  const kind = words.kindOf(at, length);
  store<u32>(record, kind, layout.KIND);
  return kind == 0 ? BEYOND : at + length;
}

function copyHashList(from: usize, record: usize): usize {
  const at = copyArrayLength(from, record + layout.HASHES, end);
  const length = load<u32>(record, layout.HASHES);
  if (at > end || !take(layout.HASH_SLOTS * length)) return BEYOND;
  const to = layout.HASHES_AT + (<usize>hashes << 3);
  hashes += length;
  return copyHashes(at, to, length, end);
}

function copyTokenList(from: usize, record: usize): usize {
  const at = copyArrayLength(from, record + layout.TOKENS, end);
  const length = load<u32>(record, layout.TOKENS);
  if (at > end || !take(length)) return BEYOND;
  const to = layout.TOKENS_AT + (<usize>tokens << 2);
  tokens += length;
  return copyTokens(at, to, length, end);
}

/** Whether there is room for so many more values. */
function take(slots: u32): bool {
  listed += slots;
  return listed <= layout.LISTED_MAX;
}

function copyParent(at: usize, record: usize): usize {
  if (load<u8>(at) == NIL) return at + 1;
  tell(record, layout.TOLD_PARENT);
  return copyHashes(at, record + layout.PARENT, 1, end);
}

/** Extras of blocks that have none; others are unusual. */
function copyNils(from: usize, record: usize): usize {
  if (load<u8>(from) == NIL) return from + 1;
  tell(record, layout.TOLD_NILS);
  const at = copyArrayLength(from, record + layout.NILS, end);
  const length = load<u32>(record, layout.NILS);
  if (at > end || !take(length)) return BEYOND;
  for (let block: usize = 0; block < length; block += 1) {
    if (load<u8>(at + block) != NIL) return BEYOND;
  }
  return at + length;
}

/** A count that may be nil. */
function copyTold(at: usize, record: usize, field: usize, told: u32): usize {
  if (load<u8>(at) == NIL) return at + 1;
  tell(record, told);
  return copyCount(at, record + field);
}

/** ASCII text that may be nil. */
function copyText(from: usize, to: usize): usize {
  if (load<u8>(from) == NIL) return from + 1;
  const at = copyTextLength(from, LENGTH_AT, end);
  if (at > end) return BEYOND;
  const length = load<u32>(LENGTH_AT);
  const known = words.knownOf(at, length);
  if (known != 0) store<u32>(to, known);
  else {
    for (let each: usize = 0; each < length; each += 1) {
      if (load<u8>(at + each) >= 0x80) return BEYOND;
    }
    store<u32>(to, (<u32>(at - PAYLOAD_AT) << 8) | length);
  }
  return at + length;
}

/** A value of a field that means nothing here: nil, a number or a text. */
function ignore(at: usize): usize {
  const head = load<u8>(at);
  const isText = (head & 0xe0) == 0xa0 || head == 0xd9 || head == NIL;
  return isText ? copyText(at, LENGTH_AT) : copyCount(at, LENGTH_AT);
}

function tell(record: usize, bit: u32): void {
  store<u32>(record, load<u32>(record, layout.TOLD) | bit, layout.TOLD);
}
