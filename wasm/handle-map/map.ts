/** One holder's map: rows with their copies, found by handle, and what is remembered of removed ones. */
import * as layout from "./layout";
import {
  BY_HANDLE,
  BY_KEY,
  CAPACITY,
  COPIES,
  FREE_FIRST,
  hashOf,
  KEY,
  MAP_BYTES,
  NONE,
  PAIRS,
  pairAt,
  RING,
  ROW_END,
  SIZE,
} from "./layout";
import * as slots from "./slots";
import * as tombstones from "./tombstones";

/** Blocks of one holder. */
export const HANDLES_MAX: u32 = 8_388_608;
/** Rows before the first growth. */
const CAPACITY_MIN: u32 = 64;
/** Columns up to this many rows double, longer ones grow by a tenth. */
const DOUBLED_ROWS: u32 = 65_536;
/** What the column of copies says beside a count from 1 on. */
const FREE: u32 = 0;
/** The count is with the caller: this many or more. */
export const MANY: u32 = 255;

export function create(): usize {
  const map = heap.alloc(MAP_BYTES);
  memory.fill(map, 0, MAP_BYTES);
  begin(map);
  return map;
}

function begin(map: usize): void {
  store<usize>(map, heap.alloc(<usize>CAPACITY_MIN << layout.ROW_LOG), PAIRS);
  store<usize>(map, heap.alloc(CAPACITY_MIN), COPIES);
  store<u32>(map, CAPACITY_MIN, CAPACITY);
  store<u32>(map, 0, ROW_END);
  store<u32>(map, 0, FREE_FIRST);
  store<u32>(map, 0, SIZE);
  slots.init(map + BY_HANDLE);
  tombstones.init(map + RING);
}

/** Forgets all. */
export function clear(map: usize): void {
  release(map);
  begin(map);
}

export function release(map: usize): void {
  heap.free(load<usize>(map, PAIRS));
  heap.free(load<usize>(map, COPIES));
  slots.release(map + BY_HANDLE);
  slots.release(map + BY_KEY);
  tombstones.release(map + RING);
}

export function destroy(map: usize): void {
  release(map);
  heap.free(map);
}

export function bytes(map: usize): u32 {
  const columns = load<u32>(map, CAPACITY) * ((1 << layout.ROW_LOG) + 1);
  return columns + slots.bytes(map + BY_HANDLE) + slots.bytes(map + BY_KEY) + tombstones.bytes(map + RING);
}

// @ts-ignore: decorator
@inline
export function copiesAt(map: usize, row: u32): usize {
  return load<usize>(map, COPIES) + row;
}

// @ts-ignore: decorator
@inline
export function rowOf(map: usize, handle: u64, hash: u64): u32 {
  return slots.find(map + BY_HANDLE, hash, load<usize>(map, PAIRS), 0, handle);
}

/** From now on keys of held blocks are told as shared too. */
export function claimHeld(map: usize): void {
  if (slots.isThere(map + BY_KEY)) return;
  slots.init(map + BY_KEY);
  const rowEnd = load<u32>(map, ROW_END);
  for (let row: u32 = 0; row < rowEnd; row += 1) {
    if (load<u8>(copiesAt(map, row)) != FREE) claim(map, row);
  }
}

/** One row for each key is enough: one that several have is ambiguous already. */
function claim(map: usize, row: u32): void {
  const table = map + BY_KEY;
  const pairs = load<usize>(map, PAIRS);
  const key = load<u64>(pairAt(pairs, row), KEY);
  const hash = hashOf(key);
  if (slots.find(table, hash, pairs, KEY, key) != NONE) return;
  slots.insert(table, hash, row, pairs, KEY);
}

/** Loads what looking up these handles will need, which lie `step` bytes from each other. */
export function touchHandles(map: usize, from: usize, step: usize, count: u32): void {
  let touched: u32 = 0;
  for (let i: u32 = 0; i < count; i += 1, from += step) {
    const hash = hashOf(load<u64>(from));
    touched += slots.touch(map + BY_HANDLE, hash) + tombstones.touch(map + RING, hash, 0);
  }
  store<u32>(layout.TOUCHED_AT, touched);
}

/** The same for adding blocks: what heads of tombstones name is loaded when these are there. */
function touchAdded(map: usize, handles: usize, keys: usize, start: u32, end: u32): void {
  const ring = map + RING;
  let touched: u32 = 0;
  for (let i = start; i < end; i += 1) {
    const hash = hashOf(load<u64>(handles + (<usize>i << 3)));
    const keyHash = hashOf(load<u64>(keys + (<usize>i << 3)));
    touched += slots.touch(map + BY_HANDLE, hash);
    touched += tombstones.touch(ring, hash, 0) + tombstones.touch(ring, keyHash, KEY);
  }
  for (let i = start; i < end; i += 1) {
    const hash = hashOf(load<u64>(handles + (<usize>i << 3)));
    const keyHash = hashOf(load<u64>(keys + (<usize>i << 3)));
    touched += tombstones.touchFirst(ring, hash, 0) + tombstones.touchFirst(ring, keyHash, KEY);
  }
  store<u32>(layout.TOUCHED_AT, touched);
}

/** Positions told at COUNTS_AT since adding began, of keys that others have claimed. */
export let shared: u32 = 0;

export function beginAdding(): void {
  shared = 0;
}

/** Blocks whose slots are loaded at once: they stay in the first cache until they are used. */
export const TOUCHED_TOGETHER: u32 = 64;

/**
 * Adds one copy of each block from `start` to `end` of these lists. Returns the first that was not added,
 * or `end`: the map is full, a claimed key is not the one that the handle has, or its copies are MANY with
 * this one, which the caller counts.
 */
export function addFrom(
  map: usize,
  handles: usize,
  keys: usize,
  rows: usize,
  start: u32,
  end: u32,
  isClaimed: bool,
): u32 {
  let touchedEnd = start;
  for (let i = start; i < end; i += 1) {
    if (i == touchedEnd) {
      touchedEnd = min<u32>(end, i + TOUCHED_TOGETHER);
      touchAdded(map, handles, keys, i, touchedEnd);
    }
    const handle = load<u64>(handles + (<usize>i << 3));
    const key = load<u64>(keys + (<usize>i << 3));
    const hash = hashOf(handle);
    let row = rowOf(map, handle, hash);
    if (row == NONE) {
      if (!mayEnter(map, handle, hash, key, isClaimed, i)) return i;
      row = insert(map, handle, hash, key);
    } else {
      if (isClaimed && load<u64>(pairAt(load<usize>(map, PAIRS), row), KEY) != key) return i;
      const copies = load<u8>(copiesAt(map, row));
      if (copies >= MANY - 1) return i;
      store<u8>(copiesAt(map, row), copies + 1);
    }
    store<u32>(rows + (<usize>i << 2), row);
  }
  return end;
}

/** Whether there is room for a handle without copies, and its tombstone has this key. */
// @ts-ignore: decorator
@inline
function mayEnter(map: usize, handle: u64, hash: u64, key: u64, isClaimed: bool, i: u32): bool {
  const ring = map + RING;
  const place = tombstones.find(ring, hash, 0, handle);
  const isFull = load<u32>(map, SIZE) >= HANDLES_MAX;
  if (place == 0) {
    if (isFull) return false;
    if (isClaimed && isKeyClaimed(map, key)) {
      store<u32>(layout.COUNTS_AT + (<usize>shared << 2), i);
      shared += 1;
    }
    return true;
  }
  if ((isClaimed && tombstones.keyOf(place) != key) || isFull) return false;
  tombstones.takeBack(ring, place);
  return true;
}

// @ts-ignore: decorator
@inline
function isKeyClaimed(map: usize, key: u64): bool {
  const hash = hashOf(key);
  if (tombstones.find(map + RING, hash, KEY, key) != 0) return true;
  const table = map + BY_KEY;
  return (
    slots.isThere(table) && slots.find(table, hash, load<usize>(map, PAIRS), KEY, key) != NONE
  );
}

/** Makes the row of a handle that is not there, with one copy. */
// @ts-ignore: decorator
@inline
function insert(map: usize, handle: u64, hash: u64, key: u64): u32 {
  let row = load<u32>(map, FREE_FIRST);
  if (row != 0) {
    row -= 1;
    store<u32>(map, load<u32>(pairAt(load<usize>(map, PAIRS), row)), FREE_FIRST);
  } else {
    row = load<u32>(map, ROW_END);
    if (row == load<u32>(map, CAPACITY)) grow(map);
    store<u32>(map, row + 1, ROW_END);
  }
  fill(map, row, handle, hash, key, 1);
  return row;
}

function fill(map: usize, row: u32, handle: u64, hash: u64, key: u64, copies: u32): void {
  const pairs = load<usize>(map, PAIRS);
  store<u64>(pairAt(pairs, row), handle);
  store<u64>(pairAt(pairs, row), key, KEY);
  store<u8>(copiesAt(map, row), copies);
  store<u32>(map, load<u32>(map, SIZE) + 1, SIZE);
  slots.insert(map + BY_HANDLE, hash, row, pairs, 0);
  if (slots.isThere(map + BY_KEY)) claim(map, row);
}

function grow(map: usize): void {
  const before = load<u32>(map, CAPACITY);
  const capacity = before < DOUBLED_ROWS ? 2 * before : before + before / 10;
  store<u32>(map, capacity, CAPACITY);
  store<usize>(map, moved(load<usize>(map, PAIRS), before << layout.ROW_LOG, capacity << layout.ROW_LOG), PAIRS);
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
  let touchedEnd = start;
  for (let i = start; i < end; i += 1) {
    if (i == touchedEnd) {
      touchedEnd = min<u32>(end, i + TOUCHED_TOGETHER);
      touchRemoved(map, handles, i, touchedEnd);
    }
    const handle = load<u64>(handles + (<usize>i << 3));
    const hash = hashOf(handle);
    const row = rowOf(map, handle, hash);
    store<u32>(rows + (<usize>i << 2), row);
    if (row == NONE) continue;
    const copies = load<u8>(copiesAt(map, row));
    if (copies == MANY) return i;
    if (copies > 1) store<u8>(copiesAt(map, row), copies - 1);
    else bury(map, row, handle, hash);
  }
  return end;
}

function touchRemoved(map: usize, handles: usize, start: u32, end: u32): void {
  let touched: u32 = 0;
  for (let i = start; i < end; i += 1) {
    const hash = hashOf(load<u64>(handles + (<usize>i << 3)));
    touched += slots.touch(map + BY_HANDLE, hash) + tombstones.touch(map + RING, hash, 0);
  }
  store<u32>(layout.TOUCHED_AT, touched);
}

function bury(map: usize, row: u32, handle: u64, hash: u64): void {
  const pairs = load<usize>(map, PAIRS);
  const key = load<u64>(pairAt(pairs, row), KEY);
  tombstones.push(map + RING, handle, key);
  slots.remove(map + BY_HANDLE, hash, row);
  const byKey = map + BY_KEY;
  if (slots.isThere(byKey)) {
    const keyHash = hashOf(key);
    if (slots.find(byKey, keyHash, pairs, KEY, key) == row) slots.remove(byKey, keyHash, row);
  }
  store<u32>(map, load<u32>(map, SIZE) - 1, SIZE);
  free(map, row);
}

function free(map: usize, row: u32): void {
  store<u8>(copiesAt(map, row), FREE);
  store<u32>(pairAt(load<usize>(map, PAIRS), row), load<u32>(map, FREE_FIRST));
  store<u32>(map, row + 1, FREE_FIRST);
}

export function buryAll(map: usize): void {
  const rowEnd = load<u32>(map, ROW_END);
  for (let row: u32 = 0; row < rowEnd; row += 1) {
    if (load<u8>(copiesAt(map, row)) == FREE) continue;
    const handle = load<u64>(pairAt(load<usize>(map, PAIRS), row));
    bury(map, row, handle, hashOf(handle));
  }
}

/**
 * Puts `count` blocks in the rows told at ROWS_AT, which were never used, in rising order, with the copies
 * told at COUNTS_AT, up to MANY. Returns how many there was room for.
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
    fill(map, row, handle, hashOf(handle), key, copies);
  }
  return count;
}

/** Where a handle's key is, of one that is held or was until lately, for keyIn; 0: it is not known. */
export function pairOf(map: usize, handle: u64): usize {
  const hash = hashOf(handle);
  const row = rowOf(map, handle, hash);
  if (row != NONE) return pairAt(load<usize>(map, PAIRS), row);
  return tombstones.find(map + RING, hash, 0, handle);
}

/** Of a row or of a tombstone, which begin alike. */
// @ts-ignore: decorator
@inline
export function keyIn(pair: usize): u64 {
  return load<u64>(pair, KEY);
}
