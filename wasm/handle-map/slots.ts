/**
 * Handle or key -> row or tombstone: buckets of a line of the cache each, with 15 slots and how many passed
 * by because it was full.
 *
 * So a look-up waits for memory once, what is absent is known to be where nobody passed by, and a removal
 * moves nothing. A slot has 8 bits of the hash, never all 0, and the 24 of an index; the value is in its
 * pair. Memory: 5 to 8 bytes for each.
 */
import { hashOf, pairAt } from "./layout";

/** A table's words. */
const BUCKETS_AT: usize = 0;
const BUCKETS: usize = 4;
const ENTRIES: usize = 8;

const BUCKET_LOG: u32 = 6;
/** The first word of a bucket is no slot. */
const SLOTS_MASK: u32 = 0xfffe;
/** Slots in use per bucket, at most, on average. */
const LOAD_MAX: u32 = 12;
const TAG_SHIFT: u32 = 24;
const INDEX_MASK: u32 = 0x00ff_ffff;
const TAG_MASK: u32 = 0xff00_0000;
/** Buckets of the smallest table. */
const BUCKETS_MIN: u32 = 4;

export function init(table: usize): void {
  allocate(table, BUCKETS_MIN);
  store<u32>(table, 0, ENTRIES);
}

export function release(table: usize): void {
  heap.free(load<usize>(table, BUCKETS_AT));
}

export function bytes(table: usize): u32 {
  return load<u32>(table, BUCKETS) << BUCKET_LOG;
}

/** Memory comes in multiples of 16: one bucket more leaves room to begin at a line. */
function allocate(table: usize, buckets: u32): void {
  const size = (<usize>buckets + 1) << BUCKET_LOG;
  const at = heap.alloc(size);
  memory.fill(at, 0, size);
  store<usize>(table, at, BUCKETS_AT);
  store<u32>(table, buckets, BUCKETS);
}

// @ts-ignore: decorator
@inline
function firstOf(table: usize): usize {
  return (load<usize>(table, BUCKETS_AT) + 63) & ~63;
}

// @ts-ignore: decorator
@inline
function homeOf(first: usize, buckets: u32, hash: u64): usize {
  return first + (<usize>(((hash >> 32) * buckets) >> 32) << BUCKET_LOG);
}

// @ts-ignore: decorator
@inline
function tagOf(hash: u64): u32 {
  const tag = <u32>hash & 0xff;
  return (tag + u32(tag == 0)) << TAG_SHIFT;
}

/** A bit for each of a bucket's slots that is the same under the mask. */
// @ts-ignore: decorator
@inline
function same(bucket: usize, wanted: u32, under: u32): u32 {
  const mask = i32x4.splat(under);
  const word = i32x4.splat(wanted);
  return (
    (i32x4.bitmask(i32x4.eq(v128.and(v128.load(bucket), mask), word)) |
      (i32x4.bitmask(i32x4.eq(v128.and(v128.load(bucket, 16), mask), word)) << 4) |
      (i32x4.bitmask(i32x4.eq(v128.and(v128.load(bucket, 32), mask), word)) << 8) |
      (i32x4.bitmask(i32x4.eq(v128.and(v128.load(bucket, 48), mask), word)) << 12)) &
    SLOTS_MASK
  );
}

// @ts-ignore: decorator
@inline
function next(bucket: usize, first: usize, buckets: u32): usize {
  const after = bucket + 64;
  return after == first + (<usize>buckets << BUCKET_LOG) ? first : after;
}

/**
 * Asks for what a look-up needs, and does not wait for it, as nothing waits for a store: this is one of the
 * zero that is there, as the number of those who passed by has three bytes.
 */
// @ts-ignore: decorator
@inline
export function fetch(table: usize, hash: u64): void {
  store<u8>(homeOf(firstOf(table), load<u32>(table, BUCKETS), hash) + 3, 0);
}

// @ts-ignore: decorator
@inline
export function indexIn(slot: usize): u32 {
  return load<u32>(slot) & INDEX_MASK;
}

/** The same value has another index from now on. */
// @ts-ignore: decorator
@inline
export function setIndex(slot: usize, index: u32): void {
  store<u32>(slot, (load<u32>(slot) & TAG_MASK) | index);
}

/** The slot of the value at `part` of its pair, or 0. */
// @ts-ignore: decorator
@inline
export function find(table: usize, hash: u64, map: usize, part: usize, value: u64): usize {
  const first = firstOf(table);
  const buckets = load<u32>(table, BUCKETS);
  const tag = tagOf(hash);
  let bucket = homeOf(first, buckets, hash);
  while (true) {
    let like = same(bucket, tag, TAG_MASK);
    while (like != 0) {
      const slot = bucket + (<usize>ctz(like) << 2);
      if (load<u64>(pairAt(map, indexIn(slot)) + part) == value) return slot;
      like &= like - 1;
    }
    if (load<u32>(bucket) == 0) return 0;
    bucket = next(bucket, first, buckets);
  }
}

/** The slot of an index whose value has this hash, or 0. */
export function locate(table: usize, hash: u64, index: u32): usize {
  const first = firstOf(table);
  const buckets = load<u32>(table, BUCKETS);
  let bucket = homeOf(first, buckets, hash);
  while (true) {
    const like = same(bucket, tagOf(hash) | index, u32.MAX_VALUE);
    if (like != 0) return bucket + (<usize>ctz(like) << 2);
    if (load<u32>(bucket) == 0) return 0;
    bucket = next(bucket, first, buckets);
  }
}

/** Adds an index whose value is not there. */
export function insert(table: usize, hash: u64, index: u32, map: usize, part: usize): void {
  const entries = load<u32>(table, ENTRIES);
  if (entries >= load<u32>(table, BUCKETS) * LOAD_MAX) grow(table, map, part);
  store<u32>(table, entries + 1, ENTRIES);
  put(table, hash, index);
}

function put(table: usize, hash: u64, index: u32): void {
  const first = firstOf(table);
  const buckets = load<u32>(table, BUCKETS);
  let bucket = homeOf(first, buckets, hash);
  while (true) {
    const free = same(bucket, 0, u32.MAX_VALUE);
    if (free != 0) {
      store<u32>(bucket + (<usize>ctz(free) << 2), tagOf(hash) | index);
      return;
    }
    store<u32>(bucket, load<u32>(bucket) + 1);
    bucket = next(bucket, first, buckets);
  }
}

/** Frees a slot whose value has this hash. */
export function remove(table: usize, hash: u64, slot: usize): void {
  const first = firstOf(table);
  const buckets = load<u32>(table, BUCKETS);
  store<u32>(table, load<u32>(table, ENTRIES) - 1, ENTRIES);
  store<u32>(slot, 0);
  const own = slot & ~63;
  let bucket = homeOf(first, buckets, hash);
  while (bucket != own) {
    store<u32>(bucket, load<u32>(bucket) - 1);
    bucket = next(bucket, first, buckets);
  }
}

/** Half as large again. Slots are passed in the order of their homes, which is that of the new ones. */
function grow(table: usize, map: usize, part: usize): void {
  const memoryAt = load<usize>(table, BUCKETS_AT);
  const first = firstOf(table);
  const buckets = load<u32>(table, BUCKETS);
  allocate(table, buckets + (buckets >> 1));
  const end = first + (<usize>buckets << BUCKET_LOG);
  for (let bucket = first; bucket < end; bucket += 64) {
    for (let slot = bucket + 4; slot < bucket + 64; slot += 4) {
      if (load<u32>(slot) == 0) continue;
      const index = indexIn(slot);
      put(table, hashOf(load<u64>(pairAt(map, index) + part)), index);
    }
  }
  heap.free(memoryAt);
}
