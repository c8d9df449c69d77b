/**
 * The relay's WebAssembly (wasm/relay-core.ts): scan of messages, maps of handles, and what joins them, in
 * one memory for all holders of a thread.
 */
import { randomBytes } from "node:crypto";
import { assert } from "../core/assert.ts";
import { instantiateWasm, type OwnMemory } from "../core/file-wasm.ts";

/** Bytes of a message that is scanned. */
export const SCAN_BYTES_MAX = 4_194_304;
/** Values in all lists of such a message, a hash as four. */
export const LISTED_MAX = 1_048_576;

interface Value {
  readonly value: number;
}

/** Exports of wasm/relay-core.ts; a map is the place of its words. */
interface RelayCoreWasm {
  readonly memory: OwnMemory;
  readonly SCAN_BYTES_MAX: Value;
  readonly LISTED_MAX: Value;
  readonly EVENTS_MAX: Value;
  readonly BATCH_AT: Value;
  readonly RECORDS_AT: Value;
  readonly TOKENS_AT: Value;
  readonly HASHES_AT: Value;
  readonly PAYLOAD_BYTES_AT: Value;
  readonly HANDLES_MAX: Value;
  readonly TOMBSTONES_MAX: Value;
  readonly CALL_BLOCKS_MAX: Value;
  readonly HANDLES_AT: Value;
  readonly KEYS_AT: Value;
  readonly ROWS_AT: Value;
  readonly COUNTS_AT: Value;
  readonly SHARED_AT: Value;
  readonly RUNS_AT: Value;
  readonly ROOT_AT: Value;
  readonly SEED_AT: Value;
  readonly OUT_AT: Value;
  scan(bytes: number, storedFields: number, removedFields: number): number;
  seedHashes(seed: bigint): void;
  create(): number;
  destroy(map: number): void;
  clear(map: number): void;
  bytes(map: number): number;
  size(map: number): number;
  rowEnd(map: number): number;
  add(map: number, count: number, isClaimed: boolean): number;
  remove(map: number, count: number): number;
  restore(map: number, count: number): number;
  buryAll(map: number): void;
  claimHeld(map: number): void;
  keyOf(map: number, handle: bigint): number;
  rowOf(map: number, handle: bigint): number;
  copiesOf(map: number, row: number): number;
  setCopies(map: number, row: number, copies: number): void;
  handleAt(map: number, row: number): bigint;
  findParents(map: number, run: number): number;
  claimRun(map: number, run: number, from: number): number;
  removeRun(map: number, run: number, from: number): number;
}

/** Its tables are seeded by chance, as a runtime's own are: no content or order depends on it. */
export const core = instantiateWasm<RelayCoreWasm>("relay-core");
core.seedHashes(randomBytes(8).readBigUInt64LE());
assert(
  core.SCAN_BYTES_MAX.value === SCAN_BYTES_MAX && core.LISTED_MAX.value === LISTED_MAX,
  "the memory of wasm/relay-core.ts has other limits",
);

/** Places in the views of words, and in that of 64-bit values. */
export const BATCH = core.BATCH_AT.value / 4;
export const RECORDS = core.RECORDS_AT.value / 4;
export const TOKENS = core.TOKENS_AT.value / 4;
export const HASHES = core.HASHES_AT.value / 4;
export const RUNS = core.RUNS_AT.value / 4;
export const OUT = core.OUT_AT.value / 4;
export const HANDLES = core.HANDLES_AT.value / 8;
export const KEYS = core.KEYS_AT.value / 8;
export const ROWS = core.ROWS_AT.value / 4;
export const COUNTS = core.COUNTS_AT.value / 4;
export const SHARED = core.SHARED_AT.value / 4;
/** What a call is told in 64 bits: as an argument a bigint takes longer. */
export const ROOT = core.ROOT_AT.value / 8;
export const SEED = core.SEED_AT.value / 8;

/** All of the memory. */
export interface CoreViews {
  readonly words: Uint32Array;
  readonly longs: BigUint64Array;
  readonly payload: Uint8Array;
  readonly batchTs: Float64Array;
}

let views = viewsOf(core.memory.buffer);

/** To be asked for again behind each call that may add to a map: memory that has grown is another buffer. */
export function coreViews(): CoreViews {
  if (views.words.length === 0) views = viewsOf(core.memory.buffer);
  return views;
}

function viewsOf(buffer: ArrayBuffer): CoreViews {
  return {
    words: new Uint32Array(buffer),
    longs: new BigUint64Array(buffer),
    payload: new Uint8Array(buffer, core.PAYLOAD_BYTES_AT.value, SCAN_BYTES_MAX),
    batchTs: new Float64Array(buffer, core.BATCH_AT.value, 1),
  };
}
