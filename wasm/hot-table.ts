/**
 * The table of block keys and their holders in shared memory: one writer, readers in any thread.
 *
 * An instance for each thread, one memory for all. The picture is in docs/architecture.md; why it is
 * this one, in docs/decisions/0002-index-and-store.md.
 */
import { place } from "./hot-table/layout";
import * as layout from "./hot-table/layout";
import { initSets } from "./hot-table/sets";
import { initSlots } from "./hot-table/slots";

export { match, residency, standing } from "./hot-table/reader";
export { removeMany, storeMany } from "./hot-table/writer";

/** Bytes of memory that a table of so many blocks needs; every instance has to say its size. */
export function attach(blocksMax: u32): f64 {
  return place(blocksMax);
}

/** Of fresh memory, by the first instance. */
export function init(): void {
  initSlots();
  initSets();
  beginEpoch();
}

/** Of what is matched from now on; the first one is 1. */
export function beginEpoch(): void {
  store<u32>(layout.EPOCH, load<u32>(layout.EPOCH) + 1);
}

/** A number for a new reader; beyond READERS_MAX there is none. */
export function addReader(): u32 {
  return atomic.add<u32>(layout.READERS, 1);
}

export function readerAt(reader: u32): usize {
  return layout.readerAt(reader);
}

/** Bytes of pages, slots and sets that are, or were, in use. */
export function bytesUsed(): f64 {
  const first = load<u32>(layout.REGION_LOGS);
  const second = load<u32>(layout.REGION_LOGS, 4);
  return (
    <f64>load<u32>(layout.PAGES_END) * <f64>layout.PAGE_BYTES +
    <f64>(<u64>4 << first) +
    (second == 0 ? 0 : <f64>(<u64>4 << second)) +
    <f64>(<u64>load<u32>(layout.ARENA_END) << layout.SET_UNIT_LOG)
  );
}

export const READERS_MAX = layout.READERS_MAX;
export const HOLDERS_MAX = layout.HOLDERS_MAX;
export const WRITE_KEYS_MAX = layout.WRITE_KEYS_MAX;
export const MATCH_KEYS_MAX = layout.MATCH_KEYS_MAX;
export const NAME_BYTES = layout.NAME_BYTES;
export const BLOCKS_AT = layout.BLOCKS;
export const ENTRIES_AT = layout.ENTRIES;
export const REFUSED_AT = layout.REFUSED;
export const REPEATED_AT = layout.REPEATED;
export const HOLDERS_AT = layout.HOLDERS;
export const NAMES_AT = layout.NAMES_AT;
export const WRITE_KEYS_AT = layout.WRITE_KEYS_AT;
export const WRITE_IDS_AT = layout.WRITE_IDS_AT;
export const WRITE_PARENTS_AT = layout.WRITE_PARENTS_AT;
/** Places in a reader's own part. */
export const READER_KEYS = layout.READER_KEYS;
export const READER_HOLDERS = layout.READER_HOLDERS;
export const READER_PROGRESS = layout.READER_PROGRESS;
