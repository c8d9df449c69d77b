/** A handle map's words, and where blocks lie on their way in and out. */

/** Blocks that one call takes. */
export const CALL_BLOCKS_MAX: u32 = 4096;
export const HANDLES_AT = memory.data(8 * CALL_BLOCKS_MAX, 16);
export const KEYS_AT = memory.data(8 * CALL_BLOCKS_MAX, 16);
export const ROWS_AT = memory.data(4 * CALL_BLOCKS_MAX, 16);
/** Copies that are put back, or positions of blocks whose keys others have claimed: a run of stores may be longer. */
export const COUNTS_AT = memory.data(4 * 32_768, 16);
/** Written and never read, so that no compiler leaves a touch out. */
export const TOUCHED_AT = memory.data(4, 4);

/** No row, and no place. */
export const NONE: u32 = u32.MAX_VALUE;

/** A row: its handle and its key; a free one has its successor in the list of free rows, + 1. */
export const ROW_LOG: u32 = 4;
export const KEY: usize = 8;

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
/** Tables (slots.ts): rows by handle, and by key where the index does not have all keys. */
export const BY_HANDLE: usize = 24;
export const BY_KEY: usize = 36;
/** The ring (tombstones.ts). */
export const RING: usize = 48;
export const MAP_BYTES: usize = 68;

// @ts-ignore: decorator
@inline
export function pairAt(pairs: usize, row: u32): usize {
  return pairs + (<usize>row << ROW_LOG);
}

/** Engines may count their handles up: every bit of them reaches every bit of this. */
// @ts-ignore: decorator
@inline
export function hashOf(value: u64): u64 {
  let hash = value ^ (value >> 32);
  hash *= 0xd6e8_feb8_6659_fd93;
  hash ^= hash >> 32;
  return hash * 0xd6e8_feb8_6659_fd93;
}
