/** Runs of plain events into a holder's map: parents found, keys hashed, handles put or taken out. */
import { chain } from "../block-keys/chain";
import * as scan from "../event-scan/layout";
import * as map from "../handle-map/map";
import { BLOCKS, EVENTS, FIRST, HASHES_FROM, OUT_AT, ROOT_AT, runAt, SEED_AT, TOKENS_FROM } from "./layout";
import { recordAt } from "./runs";

/** Of each event of a run the key before its first block. */
const PARENTS_AT = memory.data(8 * scan.EVENTS_MAX, 16);

/** Looks up the parents of a run of stores, that at ROOT_AT where an event has none. False: one is not known. */
export function findParents(at: usize, number: u32): bool {
  const root = load<u64>(ROOT_AT);
  const run = runAt(number);
  const events = load<u32>(run, EVENTS);
  const records = recordAt(load<u32>(run, FIRST));
  const handles = scan.HASHES_AT + (<usize>load<u32>(run, HASHES_FROM) << 3);
  map.fetchHandles(at, records + scan.PARENT, scan.RECORD_BYTES, events);
  // What adding its blocks will need comes meanwhile.
  map.fetchHandles(at, handles, 8, min<u32>(load<u32>(run, BLOCKS), map.FETCHED_TOGETHER));
  for (let event: u32 = 0; event < events; event += 1) {
    const record = records + <usize>event * scan.RECORD_BYTES;
    let key = root;
    if ((load<u32>(record, scan.TOLD) & scan.TOLD_PARENT) != 0) {
      const pair = map.pairOf(at, load<u64>(record, scan.PARENT));
      if (pair == 0) return false;
      key = map.keyIn(pair);
    }
    store<u64>(PARENTS_AT + (<usize>event << 3), key);
  }
  return true;
}

/**
 * Hashes a run of stores whose parents were found, with the seed at SEED_AT, and adds one copy of each block from `from` on; all are
 * told at OUT_AT. A handle that is known keeps its key, and the blocks behind it in its event follow from
 * that. Returns the first that was not added, or how many there are: the map is full, or the caller counts
 * its copies.
 */
export function claimRun(at: usize, number: u32, from: u32): u32 {
  const run = runAt(number);
  const seed = load<u64>(SEED_AT);
  const blocks = load<u32>(run, BLOCKS);
  const handles = scan.HASHES_AT + (<usize>load<u32>(run, HASHES_FROM) << 3);
  const keys = OUT_AT + (<usize>blocks << 3);
  const rows = OUT_AT + 24 * <usize>blocks;
  let fetched: u32 = 0;
  if (from == 0) {
    hashRun(run, handles, keys, seed);
    // What their handles need was asked for where their parents were found.
    fetched = min<u32>(blocks, map.FETCHED_TOGETHER);
    map.fetchKeys(at, keys, fetched);
  }
  map.beginAdding();
  let i = from;
  while (true) {
    i = map.addFrom(at, handles, keys, rows, i, blocks, fetched, true);
    if (i == blocks) return i;
    const pair = map.pairOf(at, load<u64>(handles + (<usize>i << 3)));
    const key = keys + (<usize>i << 3);
    if (pair == 0 || map.keyIn(pair) == load<u64>(key)) return i;
    store<u64>(key, map.keyIn(pair));
    hashBehind(run, i, keys, seed);
  }
}

function hashRun(run: usize, handles: usize, keys: usize, seed: u64): void {
  const events = load<u32>(run, EVENTS);
  const blocks = load<u32>(run, BLOCKS);
  const parents = keys + (<usize>blocks << 3);
  let record = recordAt(load<u32>(run, FIRST));
  const size = load<u32>(record, scan.BLOCK_SIZE);
  let tokens = scan.TOKENS_AT + (<usize>load<u32>(run, TOKENS_FROM) << 2);
  let done: usize = 0;
  for (let event: u32 = 0; event < events; event += 1, record += scan.RECORD_BYTES) {
    const own = load<u32>(record, scan.HASHES);
    const parent = load<u64>(PARENTS_AT + (<usize>event << 3));
    // By hand, as most events have a block: a call of the host to copy takes longer.
    for (let place = done << 3; place < (done + own) << 3; place += 8) {
      store<u64>(OUT_AT + place, load<u64>(handles + place));
      store<u64>(parents + place, 0);
    }
    store<u64>(parents + (done << 3), parent);
    hash(parent, tokens, own, size, seed, keys + (done << 3));
    tokens += (<usize>own * size) << 2;
    done += own;
  }
}

/** Hashes the blocks behind one that has another key, to the end of its event. */
function hashBehind(run: usize, block: u32, keys: usize, seed: u64): void {
  let record = recordAt(load<u32>(run, FIRST));
  const size = load<u32>(record, scan.BLOCK_SIZE);
  let end = load<u32>(record, scan.HASHES);
  while (end <= block) {
    record += scan.RECORD_BYTES;
    end += load<u32>(record, scan.HASHES);
  }
  const next = block + 1;
  const tokens = scan.TOKENS_AT + ((<usize>load<u32>(run, TOKENS_FROM) + <usize>next * size) << 2);
  const parent = load<u64>(keys + (<usize>block << 3));
  hash(parent, tokens, end - next, size, seed, keys + (<usize>next << 3));
}

function hash(parent: u64, from: usize, blocks: u32, size: u32, seed: u64, to: usize): void {
  chain(parent, from, blocks, size, seed, to);
}

/**
 * Takes one copy of each block of a run of removals away, from `from` on; all are told at OUT_AT. Returns
 * the first whose copies the caller counts, or how many there are.
 */
export function removeRun(at: usize, number: u32, from: u32): u32 {
  const run = runAt(number);
  const blocks = load<u32>(run, BLOCKS);
  const handles = scan.HASHES_AT + (<usize>load<u32>(run, HASHES_FROM) << 3);
  if (from == 0) memory.copy(OUT_AT, handles, <usize>blocks << 3);
  return map.removeFrom(at, handles, OUT_AT + (<usize>blocks << 3), from, blocks);
}
