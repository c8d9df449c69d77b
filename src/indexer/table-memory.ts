/**
 * The shared memory of the hot table, and an instance of its WebAssembly (wasm/hot-table.ts) over it:
 * one memory, and an instance for each thread that writes or reads.
 */
import { assert } from "../core/assert.ts";
import { instantiateWasm, type SharedMemory, sharedMemory } from "../core/file-wasm.ts";

/** Distinct blocks that ids and addresses of 32 bits leave room for. */
export const INDEX_BLOCKS_MAX = 67_000_000;
/** Readers that may be attached to one table. */
export const TABLE_READERS_MAX = 16;

/** What another thread needs to read the same table; worker_threads clone it. */
export interface TableHandle {
  readonly memory: SharedMemory;
  readonly blocksMax: number;
}

type Place = { readonly value: number };

/** Exports of wasm/hot-table.ts. */
export interface TableWasm {
  attach(blocksMax: number): number;
  init(): void;
  addReader(): number;
  readerAt(reader: number): number;
  storeMany(code: number, count: number, areParentsTold: boolean): void;
  removeMany(code: number, count: number): void;
  match(reader: number, count: number): number;
  residency(reader: number, key: bigint): number;
  standing(key: bigint, epochs: number): number;
  beginEpoch(): void;
  bytesUsed(): number;
  readonly HOLDERS_MAX: Place;
  readonly WRITE_KEYS_MAX: Place;
  readonly MATCH_KEYS_MAX: Place;
  readonly NAME_BYTES: Place;
  readonly BLOCKS_AT: Place;
  readonly ENTRIES_AT: Place;
  readonly REFUSED_AT: Place;
  readonly REPEATED_AT: Place;
  readonly HOLDERS_AT: Place;
  readonly NAMES_AT: Place;
  readonly WRITE_KEYS_AT: Place;
  readonly WRITE_IDS_AT: Place;
  readonly WRITE_PARENTS_AT: Place;
  readonly READER_KEYS: Place;
  readonly READER_HOLDERS: Place;
  readonly READER_PROGRESS: Place;
}

/** Room for `blocksMax` distinct blocks; memory is taken as it fills. */
export function createTable(blocksMax: number): TableHandle {
  assert(blocksMax >= 1 && blocksMax <= INDEX_BLOCKS_MAX, "blocksMax out of range", { blocksMax });
  const smallest = instantiateWasm<TableWasm>("hot-table", { memory: sharedMemory(1) });
  const handle = { memory: sharedMemory(smallest.attach(blocksMax)), blocksMax };
  openTable(handle).init();
  return handle;
}

/** An instance of this thread over the table's memory. */
export function openTable({ memory, blocksMax }: TableHandle): TableWasm {
  const wasm = instantiateWasm<TableWasm>("hot-table", { memory });
  wasm.attach(blocksMax);
  return wasm;
}
