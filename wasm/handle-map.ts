/**
 * Holders' maps from engine handles to block keys, AssemblyScript; src/events/handle-map.ts says what one is.
 *
 * One memory for all maps of a thread: it grows as they do, and what one gives back another takes. A call
 * takes many blocks, and first loads for all of them what each will need: memory is waited for once.
 */
import * as layout from "./handle-map/layout";
import * as map from "./handle-map/map";
import { hashOf, pairAt } from "./handle-map/layout";
import * as tombstones from "./handle-map/tombstones";

export { add, buryAll, bytes, claimHeld, clear, create, destroy, keyOf, remove, restore, shared } from "./handle-map/map";

export const HANDLES_MAX = map.HANDLES_MAX;
export const TOMBSTONES_MAX = tombstones.TOMBSTONES_MAX;
export const CALL_BLOCKS_MAX = layout.CALL_BLOCKS_MAX;
export const HANDLES_AT = layout.HANDLES_AT;
export const KEYS_AT = layout.KEYS_AT;
export const ROWS_AT = layout.ROWS_AT;
export const COUNTS_AT = layout.COUNTS_AT;

/** Blocks with copies. */
export function size(at: usize): u32 {
  return load<u32>(at, layout.SIZE);
}

/** Rows given so far. */
export function rowEnd(at: usize): u32 {
  return load<u32>(at, layout.ROW_END);
}

/** The row of a handle with copies, or -1. */
export function rowOf(at: usize, handle: u64): i32 {
  return <i32>map.rowOf(at, handle, hashOf(handle));
}

/** Of a row; 0: it is free. */
export function copiesOf(at: usize, row: u32): u32 {
  return load<u8>(map.copiesAt(at, row));
}

export function setCopies(at: usize, row: u32, copies: u32): void {
  store<u8>(map.copiesAt(at, row), copies);
}

export function handleAt(at: usize, row: u32): u64 {
  return load<u64>(pairAt(load<usize>(at, layout.PAIRS), row));
}
