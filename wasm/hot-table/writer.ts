/** Stores and removals: each call is one write, which readers see whole or not at all. */
import {
  BLOCKS,
  blocksMax,
  ENTRIES,
  keyAt,
  NEAR_AT,
  REFUSED,
  REPEATED,
  setAt,
  WRITE_IDS_AT,
  WRITE_KEYS_AT,
  WRITE_PARENTS_AT,
} from "./layout";
import { allocate, lock, release as releaseId, unlockAll } from "./pages";
import {
  EMPTY_SET,
  free,
  hasSlot,
  isUnused,
  NO_SET,
  release as releaseSet,
  retain,
  withCode,
  withoutCode,
} from "./sets";
import { find, insertSlot, NONE, removeSlot, touchSlots } from "./slots";

/**
 * Stores the first `count` keys at WRITE_KEYS_AT under a code. At WRITE_PARENTS_AT are the keys before
 * them in their chains, if `areParentsTold`; otherwise they are put behind what the holder stored last.
 * Which of them the holder had already, in whatever tier, is told at WRITE_IDS_AT.
 */
export function storeMany(code: u32, count: u32, areParentsTold: bool): void {
  const nearAt = NEAR_AT + (<usize>(code >> 2) << 2);
  let near = load<u32>(nearAt) - 1;
  if (areParentsTold && count > 1) touchSlots(WRITE_PARENTS_AT, count);
  let chainEnd: u32 = areParentsTold ? 0 : count;
  // Blocks that are stored together mostly share their set: the step from it is taken once.
  let fromBefore = NO_SET;
  let toBefore = NO_SET;
  let isOwnBefore = false;
  let repeated: u32 = 0;
  let stored: u32 = 0;
  let touchedEnd: u32 = 0;
  for (let i: u32 = 0; i < count; i += 1) {
    if (i >= chainEnd) {
      chainEnd = endOfChain(i, count);
      const parent = load<u64>(WRITE_PARENTS_AT + (<usize>i << 3));
      const before = parent == 0 ? NONE : findNear(parent, near);
      if (before != NONE) near = before;
    }
    const key = load<u64>(WRITE_KEYS_AT + (<usize>i << 3));
    let id = beside(key, near);
    if (id == NONE) {
      if (i >= touchedEnd) touchedEnd = i + touchSlots(WRITE_KEYS_AT + (<usize>i << 3), count - i);
      id = find(key);
    }
    const from = id == NONE ? EMPTY_SET : load<u32>(setAt(id));
    if (from != fromBefore) isOwnBefore = hasSlot(from, code >> 2);
    if (from != fromBefore || isUnused(toBefore)) toBefore = withCode(from, code);
    fromBefore = from;
    if (isOwnBefore) {
      store<u32>(WRITE_IDS_AT + (<usize>repeated << 2), i);
      repeated += 1;
    }
    if (toBefore == NO_SET) continue;
    if (id == NONE) {
      id = insert(key, near, chainEnd - i, toBefore);
      if (id == NONE) continue;
    } else {
      lock(id / 64);
      store<u32>(setAt(id), toBefore);
    }
    retain(toBefore, 1);
    releaseSet(from, 1);
    near = id;
    stored += 1;
  }
  if (isUnused(toBefore)) free(toBefore);
  store<u32>(nearAt, near + 1);
  store<u32>(REPEATED, repeated);
  countEntries(code, stored);
  if (stored < count) store<u32>(REFUSED, load<u32>(REFUSED) + count - stored);
  unlockAll();
}

/** Where the chain ends that begins at `start`: where another parent is told. */
function endOfChain(start: u32, count: u32): u32 {
  let end = start + 1;
  while (end < count && load<u64>(WRITE_PARENTS_AT + (<usize>end << 3)) == 0) end += 1;
  return end;
}

/** Removes the first `count` keys at WRITE_KEYS_AT under a code; unknown ones change nothing. */
export function removeMany(code: u32, count: u32): void {
  const nearAt = NEAR_AT + (<usize>(code >> 2) << 2);
  store<u32>(nearAt, lockMany(count, load<u32>(nearAt) - 1) + 1);
  let fromBefore = NO_SET;
  let toBefore = NO_SET;
  let removed: u32 = 0;
  let touchedEnd: u32 = 0;
  for (let i: u32 = 0; i < count; i += 1) {
    const id = load<u32>(WRITE_IDS_AT + (<usize>i << 2));
    if (id == NONE) continue;
    const from = load<u32>(setAt(id));
    if (from != fromBefore || isUnused(toBefore)) toBefore = withoutCode(from, code);
    fromBefore = from;
    // Without room for the smaller set the block keeps the larger one: it is refused like a store.
    if (toBefore == from || toBefore == NO_SET) continue;
    store<u32>(setAt(id), toBefore);
    if (toBefore == EMPTY_SET) {
      const keyPlace = WRITE_KEYS_AT + (<usize>i << 3);
      if (i >= touchedEnd) touchedEnd = i + touchSlots(keyPlace, count - i);
      store<u32>(BLOCKS, load<u32>(BLOCKS) - 1);
      removeSlot(load<u64>(keyPlace), id);
      releaseId(id);
    }
    retain(toBefore, 1);
    releaseSet(from, 1);
    removed += 1;
  }
  countEntries(code, 0 - removed);
  unlockAll();
}

/**
 * Puts the ids of the first `count` keys at WRITE_IDS_AT and locks their pages; returns the last one
 * that is known, or `near`. A reader who misses a key notes no page for it. So before the first key
 * goes, all pages of the write are locked: who misses it then finds them changed. A store needs no
 * such care: whatever it has added is in a page that it has locked.
 */
function lockMany(count: u32, near: u32): u32 {
  let last = near;
  for (let i: u32 = 0; i < count; i += 1) {
    const id = findNear(load<u64>(WRITE_KEYS_AT + (<usize>i << 3)), last);
    store<u32>(WRITE_IDS_AT + (<usize>i << 2), id);
    if (id == NONE) continue;
    lock(id / 64);
    last = id;
  }
  return last;
}

/** An absent key's id with its first set, or NONE where a limit is reached. */
function insert(key: u64, near: u32, blocksToCome: u32, set: u32): u32 {
  if (load<u32>(BLOCKS) == blocksMax) return NONE;
  const id = allocate(near, blocksToCome);
  if (id == NONE) return NONE;
  store<u32>(BLOCKS, load<u32>(BLOCKS) + 1);
  store<u64>(keyAt(id), key);
  store<u32>(setAt(id), set);
  insertSlot(key, id);
  return id;
}

function findNear(key: u64, near: u32): u32 {
  const id = beside(key, near);
  return id == NONE ? find(key) : id;
}

/** The id of a key that lies beside the one before, as in chains most do; NONE otherwise. */
function beside(key: u64, near: u32): u32 {
  if (near == NONE) return NONE;
  if (load<u64>(keyAt(near + 1)) == key && load<u32>(setAt(near + 1)) != 0) return near + 1;
  if (load<u64>(keyAt(near)) == key && load<u32>(setAt(near)) != 0) return near;
  if (near == 0 || load<u64>(keyAt(near - 1)) != key || load<u32>(setAt(near - 1)) == 0) return NONE;
  return near - 1;
}

function countEntries(code: u32, change: u32): void {
  const at = ENTRIES + (<usize>(code & 3) << 2);
  store<u32>(at, load<u32>(at) + change);
}
