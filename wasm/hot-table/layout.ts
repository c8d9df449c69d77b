/**
 * Where everything lies in the shared memory. All of it follows from `blocksMax`; what has not been
 * touched takes no memory, because the operating system hands pages out on first use.
 */

/** Ids in a page: the unit of a version, of allocation and of compaction. */
export const PAGE_IDS: u32 = 64;
/** version, live ids, and the neighbours in the list of free pages (number + 1, or 0). */
export const PAGE_VERSION: usize = 0;
export const PAGE_LIVE: usize = 4;
export const PAGE_NEXT: usize = 8;
export const PAGE_PREVIOUS: usize = 12;
/** A set for each id, 0 for a free one; then a key for each. */
const PAGE_SETS: usize = 16;
const PAGE_KEYS: usize = PAGE_SETS + 4 * PAGE_IDS;
export const PAGE_BYTES: usize = PAGE_KEYS + 8 * PAGE_IDS;

/** Which table of slots is in use: generation, region, and log2 of its size. */
export const SLOTS_STATE: usize = 64;
export const BLOCKS: usize = 68;
/** Four words, by tier. */
export const ENTRIES: usize = 72;
export const PAGES_END: usize = 88;
export const FREE_PAGES: usize = 92;
/** Units of the set arena in use or free again. */
export const ARENA_END: usize = 96;
/** Entries left out because a limit was reached. */
export const REFUSED: usize = 100;
/** Holders named so far; written by the host. */
export const HOLDERS: usize = 104;
export const SET_SERIAL: usize = 108;
export const SETS: usize = 112;
/** The table of slots that is being filled, or 0; ids below the cursor are in it. */
export const SHADOW_STATE: usize = 116;
export const SHADOW_CURSOR: usize = 120;
/** Slots that are not empty: live ones and graves. */
export const SLOTS_USED: usize = 124;
export const SHADOW_USED: usize = 128;
/** Compaction: the page looked at next; and the id that evacuated records go to, + 1. */
export const HAND: usize = 132;
export const TARGET: usize = 136;
/** Next id for stores of a few blocks, + 1. */
export const SMALL: usize = 140;
/** Readers attached so far. */
export const READERS: usize = 144;
/** Log2 of the largest table that each of the two regions has had. */
export const REGION_LOGS: usize = 148;
/** Heads of the free sets, by size class. */
export const FREE_SETS: usize = 160;
/** Pages in the list of free ones. */
export const FREE_COUNT: usize = 156;
/** Written and never read; see touchSlots. */
export const TOUCHED: usize = 212;
/** Keys of the last store that their holder had already; their places are at WRITE_IDS_AT. */
export const REPEATED: usize = 216;

/** Counts up while blocks are evicted; see reader.ts. */
export const EPOCH: usize = 220;

export const HOLDERS_MAX: u32 = 16384;
/** Bytes of a holder's name, and of its length before it. */
export const NAME_BYTES: usize = 272;
export const READERS_MAX: u32 = 16;
/** Keys in one call of the writer. */
export const WRITE_KEYS_MAX: u32 = 4096;
/** Keys that are looked at in one prompt. */
export const MATCH_KEYS_MAX: u32 = 131072;
const BUCKETS_LOG = 16;
export const BUCKETS_MASK: u32 = (1 << BUCKETS_LOG) - 1;
export const STEPS_LOG = 12;
export const STEP_BYTES: usize = 16;
/** Bytes of the smallest set, the unit of their numbers. */
export const SET_UNIT_LOG = 5;
export const SET_CLASSES = 13;

/** Holder and tier, and log2 of slots of an empty table. */
export const SLOTS_LOG_MIN: u32 = 10;

export const STEPS_AT: usize = 1024;
export const BUCKETS_AT: usize = STEPS_AT + (STEP_BYTES << STEPS_LOG);
/** Last id that each holder wrote, + 1. */
export const NEAR_AT: usize = BUCKETS_AT + (4 << BUCKETS_LOG);
export const WRITE_KEYS_AT: usize = NEAR_AT + 4 * HOLDERS_MAX;
/** The ids of the keys that are removed; or which of the stored keys their holder had already. */
export const WRITE_IDS_AT: usize = WRITE_KEYS_AT + 8 * WRITE_KEYS_MAX;
/** The keys before those that are stored, 0 for one that follows the one before it here. */
export const WRITE_PARENTS_AT: usize = WRITE_IDS_AT + 4 * WRITE_KEYS_MAX;
/** Pages whose version is odd until the end of a write; a call with compaction touches two a key. */
export const LOCKED_AT: usize = WRITE_PARENTS_AT + 8 * WRITE_KEYS_MAX;
const LOCKED_BYTES: usize = 1 << 20;
/** A set that is being put together. */
export const DRAFT_AT: usize = LOCKED_AT + LOCKED_BYTES;
export const NAMES_AT: usize = DRAFT_AT + (1 << 18);
const READERS_AT: usize = NAMES_AT + NAME_BYTES * HOLDERS_MAX;

/** A reader's own part: counts, keys asked for, versions seen, holders met, and their progress. */
export const READER_COUNT: usize = 0;
export const READER_AVAILABLE: usize = 4;
export const READER_SHARED: usize = 8;
export const READER_STAMP: usize = 12;
export const READER_BARRIER: usize = 16;
export const READER_KEYS: usize = 64;
export const READER_SEEN: usize = READER_KEYS + 8 * MATCH_KEYS_MAX;
export const READER_HOLDERS: usize = READER_SEEN + 8 * MATCH_KEYS_MAX;
export const READER_PROGRESS: usize = READER_HOLDERS + 4 * HOLDERS_MAX;
/** stamp; blocks of cpu, nvme, shared; blocks, gpuBlocks, blocks of gpu, reachable blocks. */
export const PROGRESS_LOG = 5;
const READER_BYTES: usize = READER_PROGRESS + (HOLDERS_MAX << PROGRESS_LOG);

const PAGES_AT_FIXED: usize = READERS_AT + READER_BYTES * READERS_MAX;

export let blocksMax: u32 = 0;
export let pagesMax: u32 = 0;
export let arenaAt: usize = 0;
export let arenaUnitsMax: u32 = 0;
/** For each page the epoch in which it was last matched. */
let stampsAt: usize = 0;
let slotsAt: usize = 0;
let slotsRegionBytes: usize = 0;

/** Sets the places that depend on the size; returns the bytes of memory needed. */
export function place(blocks: u32): f64 {
  blocksMax = blocks;
  // A quarter may lie in gaps, and every page in use may be a chain's last.
  pagesMax = (blocksMax + blocksMax / 2) / PAGE_IDS + 64;
  let log = SLOTS_LOG_MIN;
  // So that a table can double whenever it is half full; see slots.ts.
  while (<u64>1 << log < <u64>2 * blocksMax) log += 1;
  slotsRegionBytes = <usize>4 << log;
  const arenaBytes = max<u32>(1 << 22, min<u32>(blocksMax << 4, 1 << 28));
  arenaUnitsMax = arenaBytes >> SET_UNIT_LOG;
  slotsAt = PAGES_AT_FIXED + PAGE_BYTES * (<usize>pagesMax + 1);
  arenaAt = slotsAt + 2 * slotsRegionBytes;
  // A reader may see a set's length while it changes: the largest set fits behind the last one.
  stampsAt = arenaAt + arenaBytes + (1 << 18);
  return (
    <f64>PAGES_AT_FIXED +
    <f64>PAGE_BYTES * (<f64>pagesMax + 1) +
    2 * <f64>slotsRegionBytes +
    <f64>arenaBytes +
    <f64>(1 << 18) +
    4 * (<f64>pagesMax + 1)
  );
}

// @ts-ignore: decorator
@inline
export function stampAt(page: u32): usize {
  return stampsAt + (<usize>page << 2);
}

// @ts-ignore: decorator
@inline
export function pageAt(page: u32): usize {
  return PAGES_AT_FIXED + <usize>page * PAGE_BYTES;
}

// @ts-ignore: decorator
@inline
export function setAt(id: u32): usize {
  return pageAt(id / PAGE_IDS) + PAGE_SETS + ((<usize>id % PAGE_IDS) << 2);
}

// @ts-ignore: decorator
@inline
export function keyAt(id: u32): usize {
  return pageAt(id / PAGE_IDS) + PAGE_KEYS + ((<usize>id % PAGE_IDS) << 3);
}

// @ts-ignore: decorator
@inline
export function regionAt(state: u32): usize {
  return slotsAt + <usize>((state >> 5) & 1) * slotsRegionBytes;
}

// @ts-ignore: decorator
@inline
export function readerAt(reader: u32): usize {
  return READERS_AT + <usize>reader * READER_BYTES;
}
