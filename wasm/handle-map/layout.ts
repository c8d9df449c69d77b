/** A handle map's words, and where blocks lie on their way in and out. */

/** Blocks that one call takes. */
export const CALL_BLOCKS_MAX: u32 = 4096;
export const HANDLES_AT = memory.data(8 * CALL_BLOCKS_MAX, 16);
export const KEYS_AT = memory.data(8 * CALL_BLOCKS_MAX, 16);
export const ROWS_AT = memory.data(4 * CALL_BLOCKS_MAX, 16);
/** Copies that are put back, or positions of blocks whose keys others have claimed: a run of stores may be longer. */
export const COUNTS_AT = memory.data(4 * 32_768, 16);
/** How many positions are told there of blocks that were added. */
export const SHARED_AT = memory.data(4, 4);

/** No row. */
export const NONE: u32 = u32.MAX_VALUE;

/**
 * A handle and its key: of a row, or of a tombstone's place, which is MARK and its number. A free row has
 * its successor in the list of free rows, + 1.
 */
export const PAIR_LOG: u32 = 4;
export const KEY: usize = 8;
export const MARK: u32 = 0x0080_0000;

/** A map's words. */
export const PAIRS: usize = 0;
export const COPIES: usize = 4;
export const CAPACITY: usize = 8;
/** Rows given so far; those behind were never used. */
export const ROW_END: usize = 12;
/** First of the free rows, + 1. */
export const FREE_FIRST: usize = 16;
/** Rows with copies. */
export const SIZE: usize = 20;
/** Whether the keys of rows with copies are in BY_KEY too. */
export const IS_HELD_CLAIMED: usize = 24;
/** Pairs of tombstones (tombstones.ts): a ring. */
export const PLACES: usize = 28;
export const PLACES_CAPACITY: usize = 32;
/** Number of the next removal. */
export const PLACES_END: usize = 36;
/** Places in use, stale ones among them, and tombstones. */
export const PLACES_USED: usize = 40;
export const TOMBSTONES: usize = 44;
/** Tables (slots.ts): handles of rows and of tombstones, and keys of tombstones. */
export const BY_HANDLE: usize = 48;
export const BY_KEY: usize = 60;
export const MAP_BYTES: usize = 72;

// @ts-ignore: decorator
@inline
export function pairAt(map: usize, index: u32): usize {
  const column = (index & MARK) == 0 ? PAIRS : PLACES;
  return load<usize>(map + column) + (<usize>(index & (MARK - 1)) << PAIR_LOG);
}

let hashSeed: u64 = 0;

/** To be called before any map is made: engines choose handles, and could choose all of one bucket. */
export function seedHashes(seed: u64): void {
  hashSeed = seed;
}

/** Engines may count their handles up: every bit of them reaches every bit of this. */
// @ts-ignore: decorator
@inline
export function hashOf(value: u64): u64 {
  let hash = value ^ hashSeed;
  hash ^= hash >> 32;
  hash *= 0xd6e8_feb8_6659_fd93;
  hash ^= hash >> 32;
  return hash * 0xd6e8_feb8_6659_fd93;
}
