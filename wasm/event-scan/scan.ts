/**
 * Reads the common forms of vLLM's and SGLang's KV events, AssemblyScript: one call turns a message
 * into a record of words for each event, one array of all token ids and one of all hashes.
 *
 * What is unusual ends the scan, and the general decoder decides (src/events/msgpack-batch.ts), which says
 * the same of what is read here. Nothing is allocated: what does not fit is unusual too. A position goes
 * from reader to reader; once it is BEYOND it stays so, and what is read there means nothing.
 */
import * as layout from "./layout";
import { BEYOND, PAYLOAD_AT } from "./layout";
import { copyHashes, copyTokens } from "./lists";
import { copyArrayLength, copyCount, copyTextLength } from "./values";
import * as words from "./words";

const UNUSUAL: i32 = -1;
const NO_RANK: u32 = 0xffff_ffff;
const NIL: u8 = 0xc0;
/** Fields of a map, by bits. */
const SEEN_TYPE: u32 = 1;
const SEEN_BLOCK_HASHES: u32 = 2;
const SEEN_PARENT_BLOCK_HASH: u32 = 4;
const SEEN_TOKEN_IDS: u32 = 8;
const SEEN_BLOCK_SIZE: u32 = 16;
const SEEN_LORA_ID: u32 = 32;
const SEEN_MEDIUM: u32 = 64;
const SEEN_LORA_NAME: u32 = 128;
const SEEN_EXTRA_KEYS: u32 = 256;
const SEEN_GROUP_IDX: u32 = 512;
const SEEN_SPEC_KIND: u32 = 1024;
const SEEN_SLIDING_WINDOW: u32 = 2048;
const SEEN_CACHE_SALT: u32 = 4096;
const SEEN_SESSION_ID: u32 = 8192;
const SEEN_LOCALITY: u32 = 16384;
const SEEN_OWNERSHIP: u32 = 32768;
/** What a map needs to be an event of its kind. */
const NEEDED_STORED: u32 = SEEN_BLOCK_HASHES | SEEN_TOKEN_IDS | SEEN_BLOCK_SIZE;
const NEEDED_REMOVED: u32 = SEEN_BLOCK_HASHES;
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
export function scanEvents(bytes: u32, storedFields: u32, removedFields: u32): i32 {
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

// @ts-ignore: decorator
@inline
function clear(record: usize): void {
  const zeros = i32x4.splat(0);
  v128.store(record, zeros);
  v128.store(record, zeros, 16);
  v128.store(record, zeros, 32);
  v128.store(record, zeros, 48);
}

/** The tag first, the fields in their order, later ones left out. */
// @ts-ignore: decorator
@inline
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
    if (fields > 8) at = copyExtras(at, record);
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

/** The fields by their names. One that comes twice, as an unknown one, is the general decoder's. */
function scanMap(from: usize, record: usize, fields: u32): usize {
  let at = from;
  let seen: u32 = 0;
  let left = fields;
  while (left > 0) {
    const before = left;
    // In the order in which vLLM writes them one round takes all, and each branch goes its usual way.
    if (left > 0 && (seen & SEEN_TYPE) == 0 && words.isType(at)) {
      at = copyKind(at + 5, record);
      seen |= SEEN_TYPE;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_BLOCK_HASHES) == 0 && words.isBlockHashes(at)) {
      at = copyHashList(at + 13, record);
      seen |= SEEN_BLOCK_HASHES;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_PARENT_BLOCK_HASH) == 0 && words.isParentBlockHash(at)) {
      at = copyParent(at + 18, record);
      seen |= SEEN_PARENT_BLOCK_HASH;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_TOKEN_IDS) == 0 && words.isTokenIds(at)) {
      at = copyTokenList(at + 10, record);
      seen |= SEEN_TOKEN_IDS;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_BLOCK_SIZE) == 0 && words.isBlockSize(at)) {
      at = copyCount(at + 11, record + layout.BLOCK_SIZE);
      seen |= SEEN_BLOCK_SIZE;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_LORA_ID) == 0 && words.isLoraId(at)) {
      at = copyTold(at + 8, record, layout.LORA_ID, layout.TOLD_LORA_ID);
      seen |= SEEN_LORA_ID;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_MEDIUM) == 0 && words.isMedium(at)) {
      at = copyText(at + 7, record + layout.MEDIUM);
      seen |= SEEN_MEDIUM;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_LORA_NAME) == 0 && words.isLoraName(at)) {
      at = copyText(at + 10, record + layout.LORA_NAME);
      seen |= SEEN_LORA_NAME;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_EXTRA_KEYS) == 0 && words.isExtraKeys(at)) {
      at = copyExtras(at + 11, record);
      seen |= SEEN_EXTRA_KEYS;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_GROUP_IDX) == 0 && words.isGroupIdx(at)) {
      at = copyTold(at + 10, record, layout.GROUP, layout.TOLD_GROUP);
      seen |= SEEN_GROUP_IDX;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_SPEC_KIND) == 0 && words.isKvCacheSpecKind(at)) {
      at = copyText(at + 19, record + layout.SPEC_KIND);
      seen |= SEEN_SPEC_KIND;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_SLIDING_WINDOW) == 0 && words.isKvCacheSpecSlidingWindow(at)) {
      at = ignore(at + 29);
      seen |= SEEN_SLIDING_WINDOW;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_CACHE_SALT) == 0 && words.isCacheSalt(at)) {
      at = copyText(at + 11, record + layout.CACHE_SALT);
      seen |= SEEN_CACHE_SALT;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_SESSION_ID) == 0 && words.isSessionId(at)) {
      at = ignore(at + 11);
      seen |= SEEN_SESSION_ID;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_LOCALITY) == 0 && words.isLocality(at)) {
      at = ignore(at + 9);
      seen |= SEEN_LOCALITY;
      left -= 1;
    }
    if (left > 0 && (seen & SEEN_OWNERSHIP) == 0 && words.isOwnership(at)) {
      at = ignore(at + 10);
      seen |= SEEN_OWNERSHIP;
      left -= 1;
    }
    if (left == before || at > end) return BEYOND;
  }
  const kind = load<u32>(record, layout.KIND);
  const needed = kind == layout.STORED ? NEEDED_STORED : kind == layout.REMOVED ? NEEDED_REMOVED : 0;
  return kind != 0 && (seen & needed) == needed ? at : BEYOND;
}

/** An unknown one is unusual. */
// @ts-ignore: decorator
@inline
function copyKind(from: usize, record: usize): usize {
  const at = copyTextLength(from, LENGTH_AT, end);
  if (at > end) return BEYOND;
  const length = load<u32>(LENGTH_AT);
  const kind = words.kindOf(at, length);
  store<u32>(record, kind, layout.KIND);
  return kind == 0 ? BEYOND : at + length;
}

// @ts-ignore: decorator
@inline
function copyHashList(from: usize, record: usize): usize {
  const at = copyArrayLength(from, record + layout.HASHES, end);
  const length = load<u32>(record, layout.HASHES);
  if (at > end || !take(layout.HASH_SLOTS * length)) return BEYOND;
  const to = layout.HASHES_AT + (<usize>hashes << 3);
  hashes += length;
  return copyHashes(at, to, length, end);
}

// @ts-ignore: decorator
@inline
function copyTokenList(from: usize, record: usize): usize {
  const at = copyArrayLength(from, record + layout.TOKENS, end);
  const length = load<u32>(record, layout.TOKENS);
  if (at > end || !take(length)) return BEYOND;
  const to = layout.TOKENS_AT + (<usize>tokens << 2);
  tokens += length;
  return copyTokens(at, to, length, end);
}

/** Whether there is room for so many more values. */
// @ts-ignore: decorator
@inline
function take(slots: u32): bool {
  listed += slots;
  return listed <= layout.LISTED_MAX;
}

// @ts-ignore: decorator
@inline
function copyParent(at: usize, record: usize): usize {
  if (load<u8>(at) == NIL) return at + 1;
  tell(record, layout.TOLD_PARENT);
  return copyHashes(at, record + layout.PARENT, 1, end);
}

/** One entry for each block: how many, where none has extras; else where they lie. */
function copyExtras(from: usize, record: usize): usize {
  if (load<u8>(from) == NIL) return from + 1;
  let at = copyArrayLength(from, record + layout.EXTRAS, end);
  const length = load<u32>(record, layout.EXTRAS);
  if (at > end || !take(length)) return BEYOND;
  let nils: u32 = 0;
  for (let block: u32 = 0; block < length; block += 1) {
    if (load<u8>(at) == NIL) {
      nils += 1;
      at += 1;
    } else at = skipExtras(at);
    if (at > end) return BEYOND;
  }
  if (nils == length) tell(record, layout.TOLD_NO_EXTRAS);
  else {
    tell(record, layout.TOLD_EXTRAS);
    store<u32>(record, <u32>(from - PAYLOAD_AT), layout.EXTRAS);
    store<u32>(record, <u32>(at - from), layout.EXTRAS_BYTES);
  }
  return at;
}

/** What identifies one block: texts, integers, bytes, nils, and lists of these. */
function skipExtras(from: usize): usize {
  let at = copyArrayLength(from, LENGTH_AT, end);
  const length = load<u32>(LENGTH_AT);
  if (at > end || !take(layout.EXTRA_SLOTS * length)) return BEYOND;
  for (let extra: u32 = 0; extra < length; extra += 1) {
    if ((load<u8>(at) & 0xf0) == 0x90) {
      const inner = <u32>(load<u8>(at) & 0x0f);
      if (!take(layout.EXTRA_SLOTS * inner)) return BEYOND;
      at += 1;
      for (let each: u32 = 0; each < inner; each += 1) at = skipExtra(at);
    } else at = skipExtra(at);
    if (at > end) return BEYOND;
  }
  return at;
}

function skipExtra(at: usize): usize {
  const head = <u32>load<u8>(at);
  if (head < 0x80 || head >= 0xe0 || head == NIL) return at + 1;
  if ((head & 0xe0) == 0xa0) return skipText(at + 1, head & 0x1f);
  if (head == 0xd9) return skipText(at + 2, load<u8>(at, 1));
  if (head == 0xc4) return at + 2 + <usize>load<u8>(at, 1);
  // Integers of 1, 2, 4 and 8 bytes.
  if (head >= 0xcc && head <= 0xcf) return at + 1 + (1 << (head - 0xcc));
  return head >= 0xd0 && head <= 0xd3 ? at + 1 + (1 << (head - 0xd0)) : BEYOND;
}

/** A count that may be nil. */
// @ts-ignore: decorator
@inline
function copyTold(at: usize, record: usize, field: usize, told: u32): usize {
  if (load<u8>(at) == NIL) return at + 1;
  tell(record, told);
  return copyCount(at, record + field);
}

/** ASCII text that may be nil. */
// @ts-ignore: decorator
@inline
function copyText(from: usize, to: usize): usize {
  if (load<u8>(from) == NIL) return from + 1;
  const at = copyTextLength(from, LENGTH_AT, end);
  if (at > end) return BEYOND;
  const length = load<u32>(LENGTH_AT);
  const known = words.knownOf(at, length);
  if (known != 0) store<u32>(to, known);
  else store<u32>(to, (<u32>(at - PAYLOAD_AT) << 8) | length);
  return skipText(at, length);
}

/** Text beyond ASCII is unusual: where it is cut, what the decoder makes of it depends on what follows. */
function skipText(at: usize, length: u32): usize {
  for (let each: usize = 0; each < length; each += 1) {
    if (load<u8>(at + each) >= 0x80) return BEYOND;
  }
  return at + length;
}

/** A value of a field that means nothing here: nil, a number or a text. */
function ignore(at: usize): usize {
  const head = load<u8>(at);
  const isText = (head & 0xe0) == 0xa0 || head == 0xd9 || head == NIL;
  return isText ? copyText(at, LENGTH_AT) : copyCount(at, LENGTH_AT);
}

// @ts-ignore: decorator
@inline
function tell(record: usize, bit: u32): void {
  store<u32>(record, load<u32>(record, layout.TOLD) | bit, layout.TOLD);
}
