/** One holder's map: rows with their copies, found by handle, and what is remembered of removed ones. */
import * as layout from "./layout";
import {
  BY_HANDLE,
  BY_KEY,
  CAPACITY,
  COPIES,
  FREE_FIRST,
  hashOf,
  IS_HELD_CLAIMED,
  KEY,
  MAP_BYTES,
  MARK,
  NONE,
  PAIR_LOG,
  PAIRS,
  pairAt,
  ROW_END,
  SIZE,
} from "./layout";
import * as slots from "./slots";
import * as tombstones from "./tombstones";

/** Blocks of one holder: as many rows as an index without MARK names. */
export const HANDLES_MAX: u32 = 8_388_608;
/** Rows before the first growth. */
const CAPACITY_MIN: u32 = 64;
/** Columns up to this many rows double, longer ones grow by a tenth. */
const DOUBLED_ROWS: u32 = 65_536;
/** What the column of copies says beside a count from 1 on. */
const FREE: u32 = 0;
/** The count is with the caller: this many or more. */
export const MANY: u32 = 255;
/** Blocks whose slots are asked for at once: they stay in the first cache until they are used. */
export const FETCHED_TOGETHER: u32 = 64;

export function create(): usize {
  const map = heap.alloc(MAP_BYTES);
  begin(map);
  return map;
}

function begin(map: usize): void {
  memory.fill(map, 0, MAP_BYTES);
  store<usize>(map, heap.alloc(<usize>CAPACITY_MIN << PAIR_LOG), PAIRS);
  store<usize>(map, heap.alloc(CAPACITY_MIN), COPIES);
  store<u32>(map, CAPACITY_MIN, CAPACITY);
  slots.init(map + BY_HANDLE);
  slots.init(map + BY_KEY);
  tombstones.init(map);
}

/** Forgets all. */
export function clear(map: usize): void {
  release(map);
  begin(map);
}

function release(map: usize): void {
  heap.free(load<usize>(map, PAIRS));
  heap.free(load<usize>(map, COPIES));
  slots.release(map + BY_HANDLE);
  slots.release(map + BY_KEY);
  tombstones.release(map);
}

export function destroy(map: usize): void {
  release(map);
  heap.free(map);
}

export function bytes(map: usize): u32 {
  const columns = load<u32>(map, CAPACITY) * ((1 << PAIR_LOG) + 1);
  return columns + slots.bytes(map + BY_HANDLE) + slots.bytes(map + BY_KEY) + tombstones.bytes(map);
}

// @ts-ignore: decorator
@inline
export function copiesAt(map: usize, row: u32): usize {
  return load<usize>(map, COPIES) + row;
}

/** The slot of a handle that has copies, or had until lately; 0: it is not known. */
// @ts-ignore: decorator
@inline
function slotOf(map: usize, handle: u64, hash: u64): usize {
  return slots.find(map + BY_HANDLE, hash, map, 0, handle);
}

/** The row of a handle that has copies, or NONE. */
export function rowOf(map: usize, handle: u64): u32 {
  const slot = slotOf(map, handle, hashOf(handle));
  if (slot == 0) return NONE;
  const index = slots.indexIn(slot);
  return (index & MARK) == 0 ? index : NONE;
}

/** Where a handle's key is, of one that is held or was until lately, for keyIn; 0: it is not known. */
export function pairOf(map: usize, handle: u64): usize {
  const slot = slotOf(map, handle, hashOf(handle));
  return slot == 0 ? 0 : pairAt(map, slots.indexIn(slot));
}

// @ts-ignore: decorator
@inline
export function keyIn(pair: usize): u64 {
  return load<u64>(pair, KEY);
}

/** From now on keys of held blocks are told as shared too. */
export function claimHeld(map: usize): void {
  if (load<u32>(map, IS_HELD_CLAIMED) != 0) return;
  store<u32>(map, 1, IS_HELD_CLAIMED);
  const rowEnd = load<u32>(map, ROW_END);
  for (let row: u32 = 0; row < rowEnd; row += 1) {
    if (load<u8>(copiesAt(map, row)) != FREE) claim(map, row);
  }
}

/** One slot for each key is enough, that of the last: one that several have is ambiguous already. */
function claim(map: usize, index: u32): void {
  const table = map + BY_KEY;
  const key = keyIn(pairAt(map, index));
  const hash = hashOf(key);
  const slot = slots.find(table, hash, map, KEY, key);
  if (slot != 0) slots.setIndex(slot, index);
  else slots.insert(table, hash, index, map, KEY);
}

/** Asks for what looking up these handles will need, which lie `step` bytes from each other. */
export function fetchHandles(map: usize, from: usize, step: usize, count: u32): void {
  for (let i: u32 = 0; i < count; i += 1, from += step) {
    slots.fetch(map + BY_HANDLE, hashOf(load<u64>(from)));
  }
}

/** The same of keys, one behind the other. */
export function fetchKeys(map: usize, from: usize, count: u32): void {
  for (let i: u32 = 0; i < count; i += 1) {
    slots.fetch(map + BY_KEY, hashOf(load<u64>(from + (<usize>i << 3))));
  }
}

/** From now on positions of keys that others have claimed are told at COUNTS_AT, and their number at SHARED_AT. */
export function beginAdding(): void {
  store<u32>(layout.SHARED_AT, 0);
}

/**
 * Adds one copy of each block from `start` to `end` of these lists. Returns the first that was not added,
 * or `end`: the map is full, a claimed key is not the one that the handle has, or its copies are MANY with
 * this one, which the caller counts. What blocks before `fetched` need was asked for.
 */
export function addFrom(
  map: usize,
  handles: usize,
  keys: usize,
  rows: usize,
  start: u32,
  end: u32,
  fetched: u32,
  isClaimed: bool,
): u32 {
  let fetchedEnd = max<u32>(start, fetched);
  for (let i = start; i < end; i += 1) {
    const handlePlace = handles + (<usize>i << 3);
    if (i == fetchedEnd) {
      fetchedEnd = min<u32>(end, i + FETCHED_TOGETHER);
      fetchHandles(map, handlePlace, 8, fetchedEnd - i);
      fetchKeys(map, keys + (<usize>i << 3), fetchedEnd - i);
    }
    const handle = load<u64>(handlePlace);
    const key = load<u64>(keys + (<usize>i << 3));
    const hash = hashOf(handle);
    const slot = slotOf(map, handle, hash);
    let row: u32 = 0;
    if (slot == 0) {
      if (load<u32>(map, SIZE) >= HANDLES_MAX) return i;
      if (isClaimed && isKeyClaimed(map, key)) {
        const shared = load<u32>(layout.SHARED_AT);
        store<u32>(layout.COUNTS_AT + (<usize>shared << 2), i);
        store<u32>(layout.SHARED_AT, shared + 1);
      }
      row = newRow(map);
      fill(map, row, handle, key, 1);
      slots.insert(map + BY_HANDLE, hash, row, map, 0);
      if (load<u32>(map, IS_HELD_CLAIMED) != 0) claim(map, row);
    } else {
      row = slots.indexIn(slot);
      if (isClaimed && keyIn(pairAt(map, row)) != key) return i;
      if ((row & MARK) != 0) {
        if (load<u32>(map, SIZE) >= HANDLES_MAX) return i;
        tombstones.takeBack(map, row);
        row = newRow(map);
        fill(map, row, handle, key, 1);
        slots.setIndex(slot, row);
        if (load<u32>(map, IS_HELD_CLAIMED) != 0) claim(map, row);
      } else {
        const copies = load<u8>(copiesAt(map, row));
        if (copies >= MANY - 1) return i;
        store<u8>(copiesAt(map, row), copies + 1);
      }
    }
    store<u32>(rows + (<usize>i << 2), row);
  }
  return end;
}

// @ts-ignore: decorator
@inline
function isKeyClaimed(map: usize, key: u64): bool {
  return slots.find(map + BY_KEY, hashOf(key), map, KEY, key) != 0;
}

// @ts-ignore: decorator
@inline
function newRow(map: usize): u32 {
  const free = load<u32>(map, FREE_FIRST);
  if (free != 0) {
    store<u32>(map, load<u32>(pairAt(map, free - 1)), FREE_FIRST);
    return free - 1;
  }
  const row = load<u32>(map, ROW_END);
  if (row == load<u32>(map, CAPACITY)) grow(map);
  store<u32>(map, row + 1, ROW_END);
  return row;
}

// @ts-ignore: decorator
@inline
function fill(map: usize, row: u32, handle: u64, key: u64, copies: u32): void {
  const pair = pairAt(map, row);
  store<u64>(pair, handle);
  store<u64>(pair, key, KEY);
  store<u8>(copiesAt(map, row), copies);
  store<u32>(map, load<u32>(map, SIZE) + 1, SIZE);
}

function grow(map: usize): void {
  const before = load<u32>(map, CAPACITY);
  const capacity = before < DOUBLED_ROWS ? 2 * before : before + before / 10;
  store<u32>(map, capacity, CAPACITY);
  const pairs = moved(load<usize>(map, PAIRS), before << PAIR_LOG, capacity << PAIR_LOG);
  store<usize>(map, pairs, PAIRS);
  store<usize>(map, moved(load<usize>(map, COPIES), before, capacity), COPIES);
}

function moved(from: usize, bytesBefore: usize, bytesAfter: usize): usize {
  const to = heap.alloc(bytesAfter);
  memory.copy(to, from, bytesBefore);
  heap.free(from);
  return to;
}

/**
 * Takes one copy of each block from `start` to `end` away; the last one leaves a tombstone. Their rows are
 * told. Returns the first whose copies the caller counts, or `end`.
 */
export function removeFrom(map: usize, handles: usize, rows: usize, start: u32, end: u32): u32 {
  let fetchedEnd = start;
  for (let i = start; i < end; i += 1) {
    if (i == fetchedEnd) {
      fetchedEnd = min<u32>(end, i + FETCHED_TOGETHER);
      fetchHandles(map, handles + (<usize>i << 3), 8, fetchedEnd - i);
      tombstones.fetchOldest(map, fetchedEnd - i);
    }
    const handle = load<u64>(handles + (<usize>i << 3));
    const slot = slotOf(map, handle, hashOf(handle));
    const row = slot == 0 ? NONE : slots.indexIn(slot);
    const isHeld = (row & MARK) == 0;
    store<u32>(rows + (<usize>i << 2), isHeld ? row : NONE);
    if (!isHeld) continue;
    const copies = load<u8>(copiesAt(map, row));
    if (copies == MANY) return i;
    if (copies > 1) store<u8>(copiesAt(map, row), copies - 1);
    else bury(map, row, slot);
  }
  return end;
}

/** The handle's slot stays where it is, and names its tombstone. */
function bury(map: usize, row: u32, slot: usize): void {
  const pair = pairAt(map, row);
  const index = tombstones.push(map, load<u64>(pair), keyIn(pair));
  slots.setIndex(slot, index);
  if (load<u32>(map, IS_HELD_CLAIMED) != 0) tombstones.unclaim(map, row);
  claim(map, index);
  store<u32>(map, load<u32>(map, SIZE) - 1, SIZE);
  free(map, row);
}

function free(map: usize, row: u32): void {
  store<u8>(copiesAt(map, row), FREE);
  store<u32>(pairAt(map, row), load<u32>(map, FREE_FIRST));
  store<u32>(map, row + 1, FREE_FIRST);
}

export function buryAll(map: usize): void {
  const rowEnd = load<u32>(map, ROW_END);
  for (let row: u32 = 0; row < rowEnd; row += 1) {
    if (load<u8>(copiesAt(map, row)) == FREE) continue;
    const hash = hashOf(load<u64>(pairAt(map, row)));
    bury(map, row, slots.locate(map + BY_HANDLE, hash, row));
  }
}

/**
 * Puts `count` blocks in the rows told at ROWS_AT, which were never used, below HANDLES_MAX and in rising
 * order, with the copies told at COUNTS_AT, up to MANY. Returns how many there was room for.
 */
export function restore(map: usize, count: u32): u32 {
  for (let i: u32 = 0; i < count; i += 1) {
    if (load<u32>(map, SIZE) >= HANDLES_MAX) return i;
    const row = load<u32>(layout.ROWS_AT + (<usize>i << 2));
    for (let passed = load<u32>(map, ROW_END); passed <= row; passed += 1) {
      if (passed == load<u32>(map, CAPACITY)) grow(map);
      if (passed < row) free(map, passed);
    }
    store<u32>(map, row + 1, ROW_END);
    const handle = load<u64>(layout.HANDLES_AT + (<usize>i << 3));
    const key = load<u64>(layout.KEYS_AT + (<usize>i << 3));
    const copies = min<u32>(load<u32>(layout.COUNTS_AT + (<usize>i << 2)), MANY);
    fill(map, row, handle, key, copies);
    slots.insert(map + BY_HANDLE, hashOf(handle), row, map, 0);
    if (load<u32>(map, IS_HELD_CLAIMED) != 0) claim(map, row);
  }
  return count;
}
