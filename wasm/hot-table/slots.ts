/**
 * Key -> id: open addressing with linear probing, one word for each slot. At most 0.6 of the
 * slots are live, and 0.7 in use.
 *
 * An entry never changes its slot while it lives, so that a probe which runs beside the writer cannot
 * miss it: a removal leaves a grave, except at the end of a cluster, where slots become empty again.
 * A table too full is copied, some ids with each insertion, into the other of two regions, and then
 * exchanged; probes that saw the former one to its end look again.
 */
import {
  keyAt,
  PAGES_END,
  PAGE_IDS,
  regionAt,
  setAt,
  BLOCKS,
  SHADOW_CURSOR,
  SHADOW_STATE,
  SHADOW_USED,
  REGION_LOGS,
  SLOTS_LOG_MIN,
  SLOTS_STATE,
  SLOTS_USED,
  TOUCHED,
} from "./layout";

/** No id. */
export const NONE: u32 = u32.MAX_VALUE;
const EMPTY: u32 = 0;
const GRAVE: u32 = 1;
/** Ids have 26 bits, as id + 2; six bits of the key's hash stand before them. */
const ID_BITS: u32 = 26;
const ID_MASK: u32 = (1 << ID_BITS) - 1;
/** Keys whose slots are loaded ahead: they stay in the first cache until they are used. */
const KEYS_AHEAD: u32 = 64;
/** Ids that are copied to the next table with one insertion. */
const SHADOW_STEP: u32 = 32;

// @ts-ignore: decorator
@inline
function hashOf(key: u64): u64 {
  return key * 0x9e3779b97f4a7c15;
}

// @ts-ignore: decorator
@inline
function logOf(state: u32): u32 {
  return state & 31;
}

// @ts-ignore: decorator
@inline
function homeOf(hash: u64, log: u32): u32 {
  return <u32>(hash >> (64 - log));
}

// @ts-ignore: decorator
@inline
function entryOf(hash: u64, id: u32): u32 {
  return ((<u32>(hash >> 20)) << ID_BITS) | (id + 2);
}

export function initSlots(): void {
  store<u32>(SLOTS_STATE, SLOTS_LOG_MIN);
  store<u32>(REGION_LOGS, SLOTS_LOG_MIN);
}

/** The id of a key, beside any writer; NONE when it was absent at one moment of the call. */
export function find(key: u64): u32 {
  const hash = hashOf(key);
  const tag = entryOf(hash, 0) >> ID_BITS;
  let state: u32;
  do {
    state = atomic.load<u32>(SLOTS_STATE);
    const at = regionAt(state);
    const mask = (<u32>1 << logOf(state)) - 1;
    let slot = homeOf(hash, logOf(state));
    while (true) {
      const entry = atomic.load<u32>(at + (<usize>slot << 2));
      if (entry == EMPTY) break;
      if (entry >> ID_BITS == tag && (entry & ID_MASK) > GRAVE) {
        const id = (entry & ID_MASK) - 2;
        if (load<u64>(keyAt(id)) == key) return id;
        // Compaction may have moved it meanwhile: then the entry names its new id.
        if (atomic.load<u32>(at + (<usize>slot << 2)) != entry) continue;
      }
      slot = (slot + 1) & mask;
    }
  } while (atomic.load<u32>(SLOTS_STATE) != state);
  return NONE;
}

/** An absent key's new id. */
export function insertSlot(key: u64, id: u32): void {
  if (put(load<u32>(SLOTS_STATE), key, id)) store<u32>(SLOTS_USED, load<u32>(SLOTS_USED) + 1);
  const shadow = load<u32>(SHADOW_STATE);
  if (shadow != 0) {
    if (id < load<u32>(SHADOW_CURSOR)) putShadow(key, id);
    fillShadow(SHADOW_STEP);
  } else if (isFull(logOf(load<u32>(SLOTS_STATE)))) startShadow();
}

export function removeSlot(key: u64, id: u32): void {
  store<u32>(SLOTS_USED, load<u32>(SLOTS_USED) - drop(load<u32>(SLOTS_STATE), key, id));
  removeShadow(key, id);
}

/** The same key under another id. Its slot stays. */
export function moveSlot(key: u64, from: u32, to: u32): void {
  const state = load<u32>(SLOTS_STATE);
  const at = regionAt(state) + (<usize>slotOf(state, key, from) << 2);
  atomic.store<u32>(at, entryOf(hashOf(key), to));
  removeShadow(key, from);
  if (load<u32>(SHADOW_STATE) != 0 && to < load<u32>(SHADOW_CURSOR)) putShadow(key, to);
}

function removeShadow(key: u64, id: u32): void {
  const shadow = load<u32>(SHADOW_STATE);
  if (shadow == 0 || id >= load<u32>(SHADOW_CURSOR)) return;
  store<u32>(SHADOW_USED, load<u32>(SHADOW_USED) - drop(shadow, key, id));
}

// @ts-ignore: decorator
@inline
function isFull(log: u32): bool {
  return (
    <u64>5 * load<u32>(BLOCKS) > <u64>3 << log || <u64>10 * load<u32>(SLOTS_USED) > <u64>7 << log
  );
}

/** Into the first slot that is free; true when it was empty before. */
function put(state: u32, key: u64, id: u32): bool {
  const at = regionAt(state);
  const hash = hashOf(key);
  const mask = (<u32>1 << logOf(state)) - 1;
  let slot = homeOf(hash, logOf(state));
  let entry = load<u32>(at + (<usize>slot << 2));
  while (entry > GRAVE) {
    slot = (slot + 1) & mask;
    entry = load<u32>(at + (<usize>slot << 2));
  }
  // The id's page is locked, or the table not yet in use: nobody goes on from here before that ends.
  store<u32>(at + (<usize>slot << 2), entryOf(hash, id));
  return entry == EMPTY;
}

/**
 * Loads the slots that the next keys will need, up to KEYS_AHEAD, all at once: one behind the other each
 * would wait for memory. Returns for how many.
 */
export function touchSlots(keysAt: usize, count: u32): u32 {
  const state = load<u32>(SLOTS_STATE);
  const at = regionAt(state);
  const log = logOf(state);
  const length = min<u32>(count, KEYS_AHEAD);
  let touched: u32 = 0;
  for (let i: u32 = 0; i < length; i += 1) {
    const key = load<u64>(keysAt + (<usize>i << 3));
    touched += load<u32>(at + (<usize>homeOf(hashOf(key), log) << 2));
  }
  // Kept somewhere, or no compiler would let it happen.
  store<u32>(TOUCHED, touched);
  return length;
}

function slotOf(state: u32, key: u64, id: u32): u32 {
  const at = regionAt(state);
  const hash = hashOf(key);
  const mask = (<u32>1 << logOf(state)) - 1;
  const wanted = entryOf(hash, id);
  let slot = homeOf(hash, logOf(state));
  while (load<u32>(at + (<usize>slot << 2)) != wanted) slot = (slot + 1) & mask;
  return slot;
}

/** Leaves a grave, or empties the end of a cluster; returns how many slots became empty. */
function drop(state: u32, key: u64, id: u32): u32 {
  const at = regionAt(state);
  const mask = (<u32>1 << logOf(state)) - 1;
  let slot = slotOf(state, key, id);
  if (load<u32>(at + (<usize>((slot + 1) & mask) << 2)) != EMPTY) {
    store<u32>(at + (<usize>slot << 2), GRAVE);
    return 0;
  }
  let emptied: u32 = 0;
  do {
    store<u32>(at + (<usize>slot << 2), EMPTY);
    emptied += 1;
    slot = (slot - 1) & mask;
  } while (load<u32>(at + (<usize>slot << 2)) == GRAVE);
  return emptied;
}

/** Twice as large where keys fill more than half, equally large where graves do. */
function startShadow(): void {
  const state = load<u32>(SLOTS_STATE);
  const log = logOf(state) + (<u64>2 * load<u32>(BLOCKS) > <u64>1 << logOf(state) ? 1 : 0);
  const shadow = ((state + 64) & ~63) | (~state & 32) | log;
  memory.fill(regionAt(shadow), 0, <usize>4 << log);
  store<u32>(SHADOW_USED, 0);
  store<u32>(SHADOW_CURSOR, 0);
  store<u32>(SHADOW_STATE, shadow);
  const largest = REGION_LOGS + (((shadow >> 5) & 1) << 2);
  if (log > load<u32>(largest)) store<u32>(largest, log);
}

function fillShadow(ids: u32): void {
  const idsEnd = load<u32>(PAGES_END) * PAGE_IDS;
  let id = load<u32>(SHADOW_CURSOR);
  const end = min<u32>(id + ids, idsEnd);
  for (; id < end; id += 1) if (load<u32>(setAt(id)) != 0) putShadow(load<u64>(keyAt(id)), id);
  store<u32>(SHADOW_CURSOR, end);
  if (end < idsEnd) return;
  store<u32>(SLOTS_USED, load<u32>(SHADOW_USED));
  atomic.store<u32>(SLOTS_STATE, load<u32>(SHADOW_STATE));
  store<u32>(SHADOW_STATE, 0);
}

// @ts-ignore: decorator
@inline
function putShadow(key: u64, id: u32): void {
  if (put(load<u32>(SHADOW_STATE), key, id)) {
    store<u32>(SHADOW_USED, load<u32>(SHADOW_USED) + 1);
  }
}
