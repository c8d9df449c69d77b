/**
 * The longest prefix of every holder at one moment, beside a writer and without a lock.
 *
 * The walk notes the version of each page it reads and looks at all of them again at its end: if none
 * has changed, everything that was read was true at the same moment. Otherwise it begins again. Sets
 * and ids that are used again meanwhile need no other care: a page led to them, and it has changed.
 */
import {
  EPOCH,
  HOLDERS_MAX,
  keyAt,
  PAGE_IDS,
  PAGE_VERSION,
  pageAt,
  PROGRESS_LOG,
  READER_AVAILABLE,
  READER_BARRIER,
  READER_COUNT,
  READER_HOLDERS,
  READER_KEYS,
  READER_PROGRESS,
  READER_SEEN,
  READER_SHARED,
  READER_STAMP,
  readerAt,
  setAt,
  stampAt,
} from "./layout";
import { codesAt, EMPTY_SET, isShared, lengthOf } from "./sets";
import { find, NONE } from "./slots";

/** A holder's progress: stamp, blocks of the tiers after the first; then its four depths, together. */
const STAMP: usize = 0;
const DEPTHS: usize = 16;
const OWN_BLOCKS: usize = 16;
const GPU_BLOCKS: usize = 20;
const FIRST_TIER_BLOCKS: usize = 24;
const REACHABLE: usize = 28;

/** Begins again at most so often before it gives up: tens of milliseconds of a writer at rest. */
const TRIES_MAX = 100_000;

let me: usize = 0;
let stamp: u32 = 0;
let holders: u32 = 0;
let seen: u32 = 0;
/** Leading blocks of which each is in the shared tier of some holder. */
let shared: u32 = 0;

/** Matches the first `count` keys of a reader; false when it gave up. */
export function match(reader: u32, count: u32): bool {
  me = readerAt(reader);
  for (let tries = 0; tries < TRIES_MAX; tries += 1) if (walk(count)) return true;
  store<u32>(me, 0, READER_COUNT);
  return false;
}

/** What speaks against evicting a key: see `standing`. */
const SHARED: u32 = 1;
const WANTED: u32 = 2;

/**
 * Of a key, for the writer: SHARED where several holders have it, WANTED where its page was matched in
 * this epoch or one of the `epochs` - 1 before.
 */
export function standing(key: u64, epochs: u32): u32 {
  const id = find(key);
  if (id == NONE) return 0;
  const codes = codesAt(load<u32>(setAt(id)));
  const last = codes + 2 * (lengthOf(load<u32>(setAt(id))) - 1);
  const isOfSeveral = load<u16>(codes) >> 2 != load<u16>(last) >> 2;
  const stamped = load<u32>(stampAt(id / PAGE_IDS));
  const isWanted = stamped != 0 && stamped + epochs > load<u32>(EPOCH);
  return (isOfSeveral ? SHARED : 0) | (isWanted ? WANTED : 0);
}

/** The codes of one key to the reader's keys; their number, or -1 when it gave up. */
export function residency(reader: u32, key: u64): i32 {
  me = readerAt(reader);
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const id = find(key);
    if (id == NONE) return 0;
    seen = 0;
    if (!see(id / PAGE_IDS) || load<u64>(keyAt(id)) != key) continue;
    const set = load<u32>(setAt(id));
    const length = lengthOf(set);
    memory.copy(me + READER_KEYS, codesAt(set), 2 * length);
    if (set != EMPTY_SET && isUnchanged()) return length;
  }
  return -1;
}

function walk(count: u32): bool {
  begin();
  let depth: u32 = 0;
  let before = NONE;
  let pageBefore = NONE;
  // Blocks of one set are counted together, also across pages.
  let runSet = EMPTY_SET;
  let runStart: u32 = 0;
  while (depth < count) {
    const prompt = me + READER_KEYS + (<usize>depth << 3);
    const key = load<u64>(prompt);
    let id = before + 1;
    if (before == NONE || load<u64>(keyAt(id)) != key || load<u32>(setAt(id)) == EMPTY_SET) {
      id = find(key);
      if (id == NONE) break;
    }
    const page = id / PAGE_IDS;
    if (page != pageBefore && !see(page)) return false;
    pageBefore = page;
    const set = load<u32>(setAt(id));
    if (set == EMPTY_SET || load<u64>(keyAt(id)) != key) return false;
    if (set != runSet) {
      advance(runSet, runStart, depth - runStart);
      runSet = set;
      runStart = depth;
    }
    const length = runLength(id, prompt, min<u32>(PAGE_IDS - (id % PAGE_IDS), count - depth), set);
    depth += length;
    before = id + length - 1;
  }
  advance(runSet, runStart, depth - runStart);
  if (!isUnchanged()) return false;
  markWanted();
  store<u32>(me, holders, READER_COUNT);
  store<u32>(me, depth, READER_AVAILABLE);
  store<u32>(me, shared, READER_SHARED);
  return true;
}

function begin(): void {
  holders = 0;
  seen = 0;
  shared = 0;
  stamp = load<u32>(me, READER_STAMP) + 1;
  if (stamp == 0) {
    memory.fill(me + READER_PROGRESS, 0, HOLDERS_MAX << PROGRESS_LOG);
    stamp = 1;
  }
  store<u32>(me, stamp, READER_STAMP);
}

/** Notes a page's version; false while it is written. */
// @ts-ignore: decorator
@inline
function see(page: u32): bool {
  const version = atomic.load<u32>(pageAt(page) + PAGE_VERSION);
  if (version & 1) return false;
  const at = me + READER_SEEN + (<usize>seen << 3);
  store<u32>(at, page);
  store<u32>(at, version, 4);
  seen += 1;
  return true;
}

function isUnchanged(): bool {
  // A full barrier (the compiler has no plain fence): all was read before the versions are.
  atomic.add<u32>(me + READER_BARRIER, 0);
  const end = me + READER_SEEN + (<usize>seen << 3);
  for (let at = me + READER_SEEN; at < end; at += 8) {
    if (load<u32>(pageAt(load<u32>(at)) + PAGE_VERSION) != load<u32>(at, 4)) return false;
  }
  return true;
}

/**
 * Stamps the pages of this walk with the epoch. Of the shared memory it is all that readers write, and
 * only for the writer's choice of what to evict: a stamp that comes too late misleads that, no reader.
 */
function markWanted(): void {
  const epoch = load<u32>(EPOCH);
  const end = me + READER_SEEN + (<usize>seen << 3);
  for (let at = me + READER_SEEN; at < end; at += 8) {
    const stampOfPage = stampAt(load<u32>(at));
    if (load<u32>(stampOfPage) != epoch) store<u32>(stampOfPage, epoch);
  }
}

/** Blocks from `id` on that agree with the prompt and have the same set; the first one does. */
// @ts-ignore: decorator
@inline
function runLength(id: u32, prompt: usize, lengthMax: u32, set: u32): u32 {
  const keys = keyAt(id);
  const sets = setAt(id);
  const wanted = i32x4.splat(set);
  let i: u32 = 0;
  for (; i + 4 <= lengthMax; i += 4) {
    const key = keys + (<usize>i << 3);
    const asked = prompt + (<usize>i << 3);
    const differs = v128.or(
      v128.or(
        v128.xor(v128.load(key), v128.load(asked)),
        v128.xor(v128.load(key, 16), v128.load(asked, 16)),
      ),
      v128.xor(v128.load(sets + (<usize>i << 2)), wanted),
    );
    if (v128.any_true(differs)) break;
  }
  while (
    i < lengthMax &&
    load<u64>(keys + (<usize>i << 3)) == load<u64>(prompt + (<usize>i << 3)) &&
    load<u32>(sets + (<usize>i << 2)) == set
  ) {
    i += 1;
  }
  return max<u32>(i, 1);
}

/** Counts `length` blocks from depth `start` on, all held by the codes of one set. */
function advance(set: u32, start: u32, length: u32): void {
  if (length == 0) return;
  const end = start + length;
  const codes = codesAt(set);
  const codesEnd = codes + 2 * lengthOf(set);
  const starts = i32x4.splat(start);
  const ends = i32x4.splat(end);
  let slotBefore = NONE;
  for (let at = codes; at < codesEnd; at += 2) {
    const code = <u32>load<u16>(at);
    const slot = code >> 2;
    // Codes are sorted: a slot's first one is its fastest tier.
    if (slot == slotBefore) continue;
    slotBefore = slot;
    const progress = me + READER_PROGRESS + (<usize>slot << PROGRESS_LOG);
    if (load<u32>(progress, STAMP) != stamp) {
      // Whoever has had nothing so far goes on only where a shared tier supplied everything.
      if (shared != start) continue;
      meet(slot, progress);
    }
    const tier = code & 3;
    // Most have had all so far in the first tier, and go on so.
    if (tier == 0 && i32x4.all_true(i32x4.eq(v128.load(progress, DEPTHS), starts))) {
      v128.store(progress, ends, DEPTHS);
      continue;
    }
    if (load<u32>(progress, REACHABLE) == start) store<u32>(progress, end, REACHABLE);
    // A holder without an earlier block: its copies alone cannot be used.
    if (load<u32>(progress, OWN_BLOCKS) != start) continue;
    if (tier == 0 && load<u32>(progress, GPU_BLOCKS) == start) {
      store<u32>(progress, end, GPU_BLOCKS);
    }
    store<u32>(progress, end, OWN_BLOCKS);
    const tierAt = progress + (tier == 0 ? FIRST_TIER_BLOCKS : <usize>tier << 2);
    store<u32>(tierAt, load<u32>(tierAt) + length);
  }
  if (isShared(set)) supply(start, end);
}

function meet(slot: u32, progress: usize): void {
  v128.store(progress, i32x4.replace_lane(i32x4.splat(0), 0, stamp));
  v128.store(progress, i32x4.replace_lane(i32x4.splat(0), 3, shared), DEPTHS);
  store<u32>(me + READER_HOLDERS + (<usize>holders << 2), slot);
  holders += 1;
}

/** Blocks that are in a shared tier serve everyone who has come this far. */
function supply(start: u32, end: u32): void {
  if (shared == start) shared = end;
  for (let i: u32 = 0; i < holders; i += 1) {
    const slot = load<u32>(me + READER_HOLDERS + (<usize>i << 2));
    const progress = me + READER_PROGRESS + (<usize>slot << PROGRESS_LOG);
    if (load<u32>(progress, REACHABLE) == start) store<u32>(progress, end, REACHABLE);
  }
}
