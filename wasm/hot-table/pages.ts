/**
 * Ids in pages of 64: given so that a chain's blocks lie side by side, freed, and kept dense.
 *
 * A block is put behind the one before it in its chain, a new chain of some length gets a page of its
 * own, and short ones share one. Pages without blocks are free. When more than a quarter of all ids lies
 * idle in pages in use, a hand goes round them and evacuates those less full than the mean, their
 * blocks in order, into one page after the other: a few microseconds with each new page.
 */
import {
  BLOCKS,
  FREE_COUNT,
  FREE_PAGES,
  HAND,
  keyAt,
  LOCKED_AT,
  PAGES_END,
  PAGE_IDS,
  PAGE_LIVE,
  PAGE_NEXT,
  PAGE_PREVIOUS,
  PAGE_VERSION,
  pageAt,
  pagesMax,
  setAt,
  SMALL,
  stampAt,
  TARGET,
} from "./layout";
import { moveSlot, NONE } from "./slots";

/** Chains of fewer blocks share a page. */
const RUN_MIN: u32 = 16;
/** Pages that the hand passes for one new page. */
const HAND_STEPS: u32 = 16;
/** Blocks moved for one new page, about. */
const EVACUATED_MAX: u32 = 64;
/** Pages kept back, so that compaction has where to evacuate to. */
const PAGES_RESERVED: u32 = 2;

let locked: u32 = 0;

/** Makes the page's version odd until the end of the write. */
// @ts-ignore: decorator
@inline
export function lock(page: u32): void {
  const at = pageAt(page) + PAGE_VERSION;
  if (load<u32>(at) & 1) return;
  // A full barrier: no store into the page is seen before its version.
  atomic.add<u32>(at, 1);
  store<u32>(LOCKED_AT + (<usize>locked << 2), page);
  locked += 1;
}

/** Ends the write: to readers, all of it has happened. */
export function unlockAll(): void {
  while (locked > 0) {
    locked -= 1;
    const at = pageAt(load<u32>(LOCKED_AT + (<usize>locked << 2))) + PAGE_VERSION;
    atomic.store<u32>(at, load<u32>(at) + 1);
  }
}

/** A free id, counted as live, its page locked; NONE when all are taken. */
export function allocate(near: u32, blocksToCome: u32): u32 {
  let id = behind(near);
  if (id == NONE && blocksToCome < RUN_MIN) id = nextSmall();
  if (id == NONE) {
    const page = newPage(near / PAGE_IDS);
    if (page == NONE) return NONE;
    id = page * PAGE_IDS;
    if (blocksToCome < RUN_MIN) store<u32>(SMALL, id + 2);
  }
  const page = id / PAGE_IDS;
  lock(page);
  store<u32>(pageAt(page), load<u32>(pageAt(page), PAGE_LIVE) + 1, PAGE_LIVE);
  return id;
}

/** The id's set is 0 already. */
export function release(id: u32): void {
  const page = id / PAGE_IDS;
  const live = load<u32>(pageAt(page), PAGE_LIVE) - 1;
  store<u32>(pageAt(page), live, PAGE_LIVE);
  if (live > 0) return;
  if ((load<u32>(SMALL) - 1) / PAGE_IDS == page) store<u32>(SMALL, 0);
  if ((load<u32>(TARGET) - 1) / PAGE_IDS == page) store<u32>(TARGET, 0);
  store<u32>(stampAt(page), 0);
  const first = load<u32>(FREE_PAGES);
  store<u32>(pageAt(page), first, PAGE_NEXT);
  store<u32>(pageAt(page), 0, PAGE_PREVIOUS);
  if (first != 0) store<u32>(pageAt(first - 1), page + 1, PAGE_PREVIOUS);
  store<u32>(FREE_PAGES, page + 1);
  store<u32>(FREE_COUNT, load<u32>(FREE_COUNT) + 1);
}

/** The id after `near`, where it is free. */
function behind(near: u32): u32 {
  if (near == NONE) return NONE;
  const id = near + 1;
  const page = id / PAGE_IDS;
  if (id % PAGE_IDS != 0) {
    // A page that has become empty meanwhile is in the list of free ones.
    const isInUse = load<u32>(pageAt(page), PAGE_LIVE) > 0;
    return isInUse && load<u32>(setAt(id)) == 0 ? id : NONE;
  }
  const end = load<u32>(PAGES_END);
  if (page < end) {
    if (load<u32>(pageAt(page), PAGE_LIVE) > 0) return NONE;
    unlink(page);
    return id;
  }
  if (page > end || load<u32>(FREE_COUNT) > 0 || end + PAGES_RESERVED >= pagesMax) return NONE;
  store<u32>(PAGES_END, end + 1);
  return id;
}

function nextSmall(): u32 {
  let next = load<u32>(SMALL);
  if (next == 0) return NONE;
  let id = next - 1;
  while (load<u32>(setAt(id)) != 0) {
    id += 1;
    if (id % PAGE_IDS == 0) {
      store<u32>(SMALL, 0);
      return NONE;
    }
  }
  store<u32>(SMALL, (id + 1) % PAGE_IDS == 0 ? 0 : id + 2);
  return id;
}

function newPage(kept: u32): u32 {
  if (isSparse()) turnHand(HAND_STEPS, kept);
  let page = takePage(PAGES_RESERVED);
  if (page == NONE) {
    turnHand(pagesMax, kept);
    page = takePage(PAGES_RESERVED);
  }
  return page;
}

function takePage(reserved: u32): u32 {
  const first = load<u32>(FREE_PAGES);
  if (first != 0) {
    unlink(first - 1);
    return first - 1;
  }
  const end = load<u32>(PAGES_END);
  if (end + reserved >= pagesMax) return NONE;
  store<u32>(PAGES_END, end + 1);
  return end;
}

function unlink(page: u32): void {
  const next = load<u32>(pageAt(page), PAGE_NEXT);
  const previous = load<u32>(pageAt(page), PAGE_PREVIOUS);
  if (previous == 0) store<u32>(FREE_PAGES, next);
  else store<u32>(pageAt(previous - 1), next, PAGE_NEXT);
  if (next != 0) store<u32>(pageAt(next - 1), previous, PAGE_PREVIOUS);
  store<u32>(FREE_COUNT, load<u32>(FREE_COUNT) - 1);
}

/** More than a quarter of the ids in pages in use is idle, and more than a few pages. */
function isSparse(): bool {
  const ids = (load<u32>(PAGES_END) - load<u32>(FREE_COUNT)) * PAGE_IDS;
  return ids > load<u32>(BLOCKS) + ids / 4 + 16 * PAGE_IDS;
}

/** Lets the hand pass so many pages, or until it has evacuated EVACUATED_MAX blocks. */
function turnHand(steps: u32, kept: u32): void {
  const end = load<u32>(PAGES_END);
  const liveMean = load<u32>(BLOCKS) / (end - load<u32>(FREE_COUNT));
  let evacuated: u32 = 0;
  for (let step: u32 = 0; step < steps && step < end; step += 1) {
    const page = load<u32>(HAND) < end ? load<u32>(HAND) : 0;
    store<u32>(HAND, page + 1);
    const live = load<u32>(pageAt(page), PAGE_LIVE);
    if (live == 0 || live > liveMean || live == PAGE_IDS || page == kept) continue;
    if ((load<u32>(SMALL) - 1) / PAGE_IDS == page) continue;
    if ((load<u32>(TARGET) - 1) / PAGE_IDS == page) continue;
    evacuate(page);
    evacuated += live;
    if (evacuated >= EVACUATED_MAX) return;
  }
}

function evacuate(page: u32): void {
  lock(page);
  const stamp = load<u32>(stampAt(page));
  const end = (page + 1) * PAGE_IDS;
  for (let from = page * PAGE_IDS; from < end; from += 1) {
    const set = load<u32>(setAt(from));
    if (set == 0) continue;
    const to = nextTarget();
    if (to == NONE) return;
    const key = load<u64>(keyAt(from));
    const target = to / PAGE_IDS;
    lock(target);
    store<u32>(pageAt(target), load<u32>(pageAt(target), PAGE_LIVE) + 1, PAGE_LIVE);
    store<u64>(keyAt(to), key);
    store<u32>(setAt(to), set);
    if (load<u32>(stampAt(target)) < stamp) store<u32>(stampAt(target), stamp);
    moveSlot(key, from, to);
    store<u32>(setAt(from), 0);
    release(from);
  }
}

function nextTarget(): u32 {
  let next = load<u32>(TARGET);
  while (next != 0 && load<u32>(setAt(next - 1)) != 0) next = next % PAGE_IDS == 0 ? 0 : next + 1;
  if (next == 0) {
    const page = takePage(0);
    if (page == NONE) return NONE;
    next = page * PAGE_IDS + 1;
  }
  store<u32>(TARGET, next % PAGE_IDS == 0 ? 0 : next + 1);
  return next - 1;
}
