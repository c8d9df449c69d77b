/**
 * Removed handles and the keys they had, oldest forgotten first.
 *
 * Their pairs lie in a ring, in the order of removal, and stand in the map's tables as rows do. What is
 * taken back is no longer named there: its place is stale, and is passed when it is the oldest, or squeezed
 * out when the ring is full. Every operation costs a constant on average. Memory: 16 bytes for each place,
 * of which there are at most four times the limit, and two slots for each tombstone.
 */
import {
  BY_HANDLE,
  BY_KEY,
  hashOf,
  KEY,
  MARK,
  PAIR_LOG,
  PLACES,
  PLACES_CAPACITY,
  PLACES_END,
  PLACES_USED,
  pairAt,
  TOMBSTONES,
} from "./layout";
import * as slots from "./slots";

/** Handles remembered after their block is gone. */
export const TOMBSTONES_MAX: u32 = 65_536;
/** A power of two, as all lengths. */
const CAPACITY_MIN: u32 = 64;

export function init(map: usize): void {
  allocate(map, CAPACITY_MIN);
  store<u32>(map, 0, TOMBSTONES);
}

export function release(map: usize): void {
  heap.free(load<usize>(map, PLACES));
}

export function bytes(map: usize): u32 {
  return load<u32>(map, PLACES_CAPACITY) << PAIR_LOG;
}

function allocate(map: usize, capacity: u32): void {
  store<usize>(map, heap.alloc(<usize>capacity << PAIR_LOG), PLACES);
  store<u32>(map, capacity, PLACES_CAPACITY);
  store<u32>(map, 0, PLACES_END);
  store<u32>(map, 0, PLACES_USED);
}

// @ts-ignore: decorator
@inline
function indexOf(map: usize, number: u32): u32 {
  return MARK | (number & (load<u32>(map, PLACES_CAPACITY) - 1));
}

/** The index of a removed handle and its key, which are in no table yet; another may be forgotten for it. */
export function push(map: usize, handle: u64, key: u64): u32 {
  if (load<u32>(map, TOMBSTONES) == TOMBSTONES_MAX) forgetOldest(map);
  if (load<u32>(map, PLACES_USED) == load<u32>(map, PLACES_CAPACITY)) squeeze(map);
  const number = load<u32>(map, PLACES_END);
  const index = indexOf(map, number);
  const pair = pairAt(map, index);
  store<u64>(pair, handle);
  store<u64>(pair, key, KEY);
  store<u32>(map, number + 1, PLACES_END);
  store<u32>(map, load<u32>(map, PLACES_USED) + 1, PLACES_USED);
  store<u32>(map, load<u32>(map, TOMBSTONES) + 1, TOMBSTONES);
  return index;
}

/** Its handle has copies again: nothing names its place but the key. */
export function takeBack(map: usize, index: u32): void {
  unclaim(map, index);
  store<u32>(map, load<u32>(map, TOMBSTONES) - 1, TOMBSTONES);
}

/** The key of a row or tombstone is no longer claimed by it, if it was. */
export function unclaim(map: usize, index: u32): void {
  const hash = hashOf(load<u64>(pairAt(map, index), KEY));
  const slot = slots.locate(map + BY_KEY, hash, index);
  if (slot != 0) slots.remove(map + BY_KEY, hash, slot);
}

/** Asks for what forgetting the next `count` will need, where there is no room for more. */
export function fetchOldest(map: usize, count: u32): void {
  if (load<u32>(map, TOMBSTONES) + count <= TOMBSTONES_MAX) return;
  const start = load<u32>(map, PLACES_END) - load<u32>(map, PLACES_USED);
  for (let i: u32 = 0; i < count; i += 1) {
    const pair = pairAt(map, indexOf(map, start + i));
    slots.fetch(map + BY_HANDLE, hashOf(load<u64>(pair)));
    slots.fetch(map + BY_KEY, hashOf(load<u64>(pair, KEY)));
  }
}

function forgetOldest(map: usize): void {
  const end = load<u32>(map, PLACES_END);
  let used = load<u32>(map, PLACES_USED);
  while (true) {
    const index = indexOf(map, end - used);
    const hash = hashOf(load<u64>(pairAt(map, index)));
    const slot = slots.locate(map + BY_HANDLE, hash, index);
    used -= 1;
    if (slot == 0) continue;
    slots.remove(map + BY_HANDLE, hash, slot);
    unclaim(map, index);
    break;
  }
  store<u32>(map, used, PLACES_USED);
  store<u32>(map, load<u32>(map, TOMBSTONES) - 1, TOMBSTONES);
}

/** Makes room: leaves out what is stale, and doubles where that is less than half. */
function squeeze(map: usize): void {
  const places = load<usize>(map, PLACES);
  const capacity = load<u32>(map, PLACES_CAPACITY);
  const end = load<u32>(map, PLACES_END);
  const kept = load<u32>(map, TOMBSTONES);
  // All are found before the first has another index.
  const found = heap.alloc((<usize>kept + 1) * 12);
  let to = found;
  for (let number = end - capacity; number != end; number += 1) {
    const index = indexOf(map, number);
    const pair = pairAt(map, index);
    const slot = slots.locate(map + BY_HANDLE, hashOf(load<u64>(pair)), index);
    if (slot == 0) continue;
    store<usize>(to, pair);
    store<usize>(to, slot, 4);
    store<usize>(to, slots.locate(map + BY_KEY, hashOf(load<u64>(pair, KEY)), index), 8);
    to += 12;
  }
  allocate(map, kept <= capacity / 2 ? capacity : 2 * capacity);
  for (let number: u32 = 0; number < kept; number += 1) {
    const from = found + <usize>number * 12;
    const index = indexOf(map, number);
    memory.copy(pairAt(map, index), load<usize>(from), 16);
    slots.setIndex(load<usize>(from, 4), index);
    if (load<usize>(from, 8) != 0) slots.setIndex(load<usize>(from, 8), index);
  }
  store<u32>(map, kept, PLACES_END);
  store<u32>(map, kept, PLACES_USED);
  heap.free(found);
  heap.free(places);
}
