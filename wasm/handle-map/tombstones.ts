/**
 * Removed handles and the keys they had, oldest forgotten first: found by handle and by key.
 *
 * A ring of the removals in their order. Of those whose handles hash alike each names the one before it,
 * and a head the last: as a place is used again only when all older ones are, nobody is ever taken out of
 * such a chain. It ends at a place that is gone, or that is not older than the one that named it. What is
 * taken back stays in the ring as stale, and is squeezed out when that is full, so that every operation
 * costs a constant on average. Memory: 32 bytes for each place, of which there are at most four times the
 * limit.
 */
import { hashOf } from "./layout";

/** Handles remembered after their block is gone. */
export const TOMBSTONES_MAX: u32 = 65_536;
/** A power of two, as all lengths. */
const CAPACITY_MIN: u32 = 64;

/** A ring's words. */
const PLACES_AT: usize = 0;
const CAPACITY: usize = 4;
/** Number of the next removal. */
const END: usize = 8;
/** Places in use, stale ones among them. */
const USED: usize = 12;
const SIZE: usize = 16;

/** A place: handle, key, and a link for each. Heads come behind all places: of handles, then of keys. */
const PLACE_BYTES: usize = 24;
const KEY: usize = 8;
const LINK: usize = 16;
const KEY_LINK: usize = 20;

/** A link: stale or not (of handles alone), bits of the hash that are never all 0, and the removal's number. 0: none. */
const STALE: u32 = 0x8000_0000;
const TAG_MASK: u32 = 0x7ff0_0000;
const TAG_SET: u32 = 0x0010_0000;
/** Removals are counted on and on, of which this is the remainder; places are remainders of that. */
const NUMBER_MASK: u32 = 0x000f_ffff;

export function init(ring: usize): void {
  allocate(ring, CAPACITY_MIN);
  store<u32>(ring, 0, SIZE);
}

export function release(ring: usize): void {
  heap.free(load<usize>(ring, PLACES_AT));
}

export function bytes(ring: usize): u32 {
  return load<u32>(ring, CAPACITY) * 32;
}

function allocate(ring: usize, capacity: u32): void {
  const at = heap.alloc(<usize>capacity * 32);
  memory.fill(at + <usize>capacity * PLACE_BYTES, 0, <usize>capacity * 8);
  store<usize>(ring, at, PLACES_AT);
  store<u32>(ring, capacity, CAPACITY);
  store<u32>(ring, 0, END);
  store<u32>(ring, 0, USED);
}

// @ts-ignore: decorator
@inline
function headAt(ring: usize, hash: u64, part: usize): usize {
  const capacity = load<u32>(ring, CAPACITY);
  const heads = load<usize>(ring, PLACES_AT) + <usize>capacity * (part == 0 ? 24 : 28);
  return heads + (<usize>(<u32>(hash >> 32) & (capacity - 1)) << 2);
}

// @ts-ignore: decorator
@inline
function tagOf(hash: u64): u32 {
  return (<u32>hash & TAG_MASK) | TAG_SET;
}

// @ts-ignore: decorator
@inline
function placeAt(ring: usize, number: u32): usize {
  const place = number & (load<u32>(ring, CAPACITY) - 1);
  return load<usize>(ring, PLACES_AT) + <usize>place * PLACE_BYTES;
}

/** Appends a handle that is not there, and its key. */
export function push(ring: usize, handle: u64, key: u64): void {
  if (load<u32>(ring, SIZE) == TOMBSTONES_MAX) forgetOldest(ring);
  if (load<u32>(ring, USED) == load<u32>(ring, CAPACITY)) squeeze(ring);
  append(ring, handle, key);
  store<u32>(ring, load<u32>(ring, SIZE) + 1, SIZE);
}

function append(ring: usize, handle: u64, key: u64): void {
  const number = load<u32>(ring, END);
  const place = placeAt(ring, number);
  const hash = hashOf(handle);
  const keyHash = hashOf(key);
  const head = headAt(ring, hash, 0);
  const keyHead = headAt(ring, keyHash, KEY);
  store<u64>(place, handle);
  store<u64>(place, key, KEY);
  store<u32>(place, load<u32>(head), LINK);
  store<u32>(place, load<u32>(keyHead), KEY_LINK);
  store<u32>(head, tagOf(hash) | number);
  store<u32>(keyHead, tagOf(keyHash) | number);
  store<u32>(ring, (number + 1) & NUMBER_MASK, END);
  store<u32>(ring, load<u32>(ring, USED) + 1, USED);
}

/** Loads what looking a handle up needs; `part` 0, or KEY for a key. */
// @ts-ignore: decorator
@inline
export function touch(ring: usize, hash: u64, part: usize): u32 {
  return load<u32>(headAt(ring, hash, part));
}

/** Loads what its head names, once that is loaded. */
// @ts-ignore: decorator
@inline
export function touchFirst(ring: usize, hash: u64, part: usize): u32 {
  const link = load<u32>(headAt(ring, hash, part));
  return load<u32>(placeAt(ring, link & NUMBER_MASK) + (part == 0 ? LINK : KEY_LINK));
}

/** Where a handle lies, or a key where `part` is KEY; 0: nowhere. */
// @ts-ignore: decorator
@inline
export function find(ring: usize, hash: u64, part: usize, value: u64): usize {
  const tag = tagOf(hash);
  const end = load<u32>(ring, END);
  const used = load<u32>(ring, USED);
  let link = load<u32>(headAt(ring, hash, part));
  let age: u32 = 0;
  while (link != 0) {
    const older = (end - link) & NUMBER_MASK;
    if (older <= age || older > used) return 0;
    age = older;
    const place = placeAt(ring, link & NUMBER_MASK);
    if (((link ^ tag) & TAG_MASK) == 0 && load<u64>(place + part) == value) {
      if ((load<u32>(place, LINK) & STALE) == 0) return place;
    }
    link = load<u32>(place + (part == 0 ? LINK : KEY_LINK)) & ~STALE;
  }
  return 0;
}

// @ts-ignore: decorator
@inline
export function keyOf(place: usize): u64 {
  return load<u64>(place, KEY);
}

export function takeBack(ring: usize, place: usize): void {
  store<u32>(place, load<u32>(place, LINK) | STALE, LINK);
  store<u32>(ring, load<u32>(ring, SIZE) - 1, SIZE);
}

function forgetOldest(ring: usize): void {
  let used = load<u32>(ring, USED);
  const end = load<u32>(ring, END);
  while ((load<u32>(placeAt(ring, end - used), LINK) & STALE) != 0) used -= 1;
  store<u32>(ring, used - 1, USED);
  store<u32>(ring, load<u32>(ring, SIZE) - 1, SIZE);
}

/** Makes room: leaves out what is stale, and doubles where that is less than half. */
function squeeze(ring: usize): void {
  const placesAt = load<usize>(ring, PLACES_AT);
  const capacity = load<u32>(ring, CAPACITY);
  const end = load<u32>(ring, END);
  const isHoley = load<u32>(ring, SIZE) <= capacity / 2;
  allocate(ring, isHoley ? capacity : 2 * capacity);
  for (let number = end - capacity; number != end; number += 1) {
    const place = placesAt + <usize>(number & (capacity - 1)) * PLACE_BYTES;
    if ((load<u32>(place, LINK) & STALE) != 0) continue;
    append(ring, load<u64>(place), load<u64>(place, KEY));
  }
  heap.free(placesAt);
}
