/**
 * The relay's tables and loops, AssemblyScript: what every block of every event needs, in one memory, which
 * no list is copied out of before it is keyed. One for all holders of a thread; it grows as their maps do,
 * and what one gives back another takes.
 *
 * src/events/event-scan.ts says what a scan is, handle-map.ts what a map, keyed-runs.ts what runs are.
 */
import { pairAt } from "./handle-map/layout";
import * as handles from "./handle-map/layout";
import * as map from "./handle-map/map";
import * as tombstones from "./handle-map/tombstones";
import * as scanned from "./event-scan/layout";
import { scanEvents } from "./event-scan/scan";
import * as runs from "./relay-core/layout";
import { plan } from "./relay-core/runs";

export { seedHashes } from "./handle-map/layout";
export { buryAll, bytes, claimHeld, clear, create, destroy, restore } from "./handle-map/map";
export { claimRun, findParents, removeRun } from "./relay-core/keyed-runs";

export const SCAN_BYTES_MAX = scanned.SCAN_BYTES_MAX;
export const LISTED_MAX = scanned.LISTED_MAX;
export const EVENTS_MAX = scanned.EVENTS_MAX;
export const BATCH_AT = scanned.BATCH_AT;
export const RECORDS_AT = scanned.RECORDS_AT;
export const TOKENS_AT = scanned.TOKENS_AT;
export const HASHES_AT = scanned.HASHES_AT;
export const PAYLOAD_BYTES_AT = scanned.PAYLOAD_AT;

export const HANDLES_MAX = map.HANDLES_MAX;
export const TOMBSTONES_MAX = tombstones.TOMBSTONES_MAX;
export const CALL_BLOCKS_MAX = handles.CALL_BLOCKS_MAX;
export const HANDLES_AT = handles.HANDLES_AT;
export const KEYS_AT = handles.KEYS_AT;
export const ROWS_AT = handles.ROWS_AT;
export const COUNTS_AT = handles.COUNTS_AT;
export const SHARED_AT = handles.SHARED_AT;

export const RUNS_AT = runs.RUNS_AT;
export const ROOT_AT = runs.ROOT_AT;
export const SEED_AT = runs.SEED_AT;
export const OUT_AT = runs.OUT_AT;

/** Scans the message at PAYLOAD_BYTES_AT, see scanEvents, and puts its events together in runs. */
export function scan(bytes: u32, storedFields: u32, removedFields: u32): i32 {
  const events = scanEvents(bytes, storedFields, removedFields);
  if (events >= 0) store<u32>(BATCH_AT, plan(events), scanned.BATCH_RUNS);
  return events;
}

/** Adds one copy of each of the first blocks at HANDLES_AT, see addFrom. */
export function add(at: usize, count: u32, isClaimed: bool): u32 {
  map.beginAdding();
  return map.addFrom(at, HANDLES_AT, KEYS_AT, ROWS_AT, 0, count, 0, isClaimed);
}

/** Takes one copy of each of the first blocks at HANDLES_AT away, see removeFrom. */
export function remove(at: usize, count: u32): u32 {
  return map.removeFrom(at, HANDLES_AT, ROWS_AT, 0, count);
}

/** Blocks with copies. */
export function size(at: usize): u32 {
  return load<u32>(at, handles.SIZE);
}

/** Rows given so far. */
export function rowEnd(at: usize): u32 {
  return load<u32>(at, handles.ROW_END);
}

/** The row of a handle with copies, or -1. */
export function rowOf(at: usize, handle: u64): i32 {
  return <i32>map.rowOf(at, handle);
}

/** The key of a handle that is held, or was until lately, to KEYS_AT. */
export function keyOf(at: usize, handle: u64): bool {
  const pair = map.pairOf(at, handle);
  if (pair != 0) store<u64>(KEYS_AT, map.keyIn(pair));
  return pair != 0;
}

/** Of a row; 0: it is free. */
export function copiesOf(at: usize, row: u32): u32 {
  return load<u8>(map.copiesAt(at, row));
}

export function setCopies(at: usize, row: u32, copies: u32): void {
  store<u8>(map.copiesAt(at, row), copies);
}

export function handleAt(at: usize, row: u32): u64 {
  return load<u64>(pairAt(at, row));
}
