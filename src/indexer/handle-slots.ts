/**
 * Engine handle -> row of a holder's table: open addressing in four bytes a slot.
 *
 * Robin Hood hashing: a slot has its row, how far it stands from where its hash points, and four bits
 * of the hash; whoever stands farther displaces whoever stands nearer. So a look-up reads only rows of
 * its own distance and bits, ends where nearer ones begin, and stays short at a load of 0.8; deletion
 * shifts back without reading a handle. The handles themselves are the caller's column.
 * Memory: 5 to 10 bytes per row. Cost: a miss of the cache for each look-up in a large table, so that
 * callers who will look up several `touch` them all before.
 */
import { U64Cell } from "./u64-words.ts";

/** Rows that a slot can name. */
export const ROWS_MAX = 16_777_214;
/** No row: an absent handle. */
export const NO_ROW = -1;

/** Slots in use per slot, at most. */
const LOAD_MAX = 0.8;
/** Slots made at a growth, for each that is needed: the next one comes later. */
const SLACK = 1.5;
/** Fewer handles are looked up as fast without. */
const TOUCHED_MIN = 4;
/** Slots whose rows are loaded at once when a table grows. */
const MOVED_TOGETHER = 64;
/** An entry: distance, bits of the hash, row + 1. 0: a free slot. */
const DISTANCE_SHIFT = 28;
const DISTANCE_ONE = 1 << DISTANCE_SHIFT;
const TAG_SHIFT = 24;
const TAG_MASK = 15;
const ROW_BITS = 0xff_ffff;
const TAG_AND_ROW_BITS = 0xfff_ffff;
/** The distance is this or more: the handle itself tells. Few get there that are not hostile. */
const FAR = 15;
/** No look-up has just missed. */
const NOWHERE = -1;

const cell = new U64Cell();
/** Written and never read, so that no compiler leaves a touch out. */
const touchedCell = new Uint32Array(1);

export class HandleSlots {
  /** Two words for each row, low first. */
  #handles: Uint32Array;
  #slots: Uint32Array;
  /** Where the last look-up ended without a row, how far from its home, and its bits. */
  #missSlot = NOWHERE;
  #missDistance = 0;
  #missTag = 0;

  /** `rows`: how many are to come; default: as many as the column has. */
  constructor(handles: Uint32Array, rows = handles.length / 2) {
    this.#handles = handles;
    this.#slots = new Uint32Array(slotsFor(rows));
  }

  get byteLength(): number {
    return this.#slots.byteLength;
  }

  /** Places the rows anew for a column that has grown: those below `rowEnd` that are in use. */
  rebuild(handles: Uint32Array, isUsed: Uint8Array, rowEnd: number): void {
    this.#handles = handles;
    this.#slots = new Uint32Array(slotsFor(handles.length / 2));
    this.#missSlot = NOWHERE;
    this.insertAll(isUsed, 0, rowEnd);
  }

  /** The column has moved, and so many rows are to come in all. */
  moveTo(handles: Uint32Array, rows: number): void {
    this.#handles = handles;
    const from = this.#slots;
    if (slotsFor(rows) <= from.length) return;
    this.#slots = new Uint32Array(slotsFor(rows * SLACK));
    this.#missSlot = NOWHERE;
    // In the order of their slots, which they nearly keep; their handles lie anywhere.
    for (let start = 0; start < from.length; start += MOVED_TOGETHER) {
      const end = Math.min(from.length, start + MOVED_TOGETHER);
      for (let slot = start; slot < end; slot += 1) this.#touchEntry(from[slot] ?? 0);
      for (let slot = start; slot < end; slot += 1) {
        const entry = from[slot] ?? 0;
        if (entry !== 0) this.insert((entry & ROW_BITS) - 1);
      }
    }
  }

  /**
   * Loads the slots of `count` handles that will be looked up: in a row they wait for memory together, later
   * each would wait alone. Of a few nothing is loaded.
   */
  touch(handles: BigUint64Array, start: number, count: number): void {
    if (count < TOUCHED_MIN) return;
    const slots = this.#slots;
    let touched = 0;
    for (let position = start; position < start + count; position += 1) {
      cell.set(handles[position] ?? 0n);
      touched += slots[homeOf(hashOf(cell.low, cell.high), slots.length)] ?? 0;
    }
    touchedCell[0] = touched;
  }

  /** The same for a row whose handle is in the column. */
  touchRow(row: number): void {
    const slots = this.#slots;
    touchedCell[0] = slots[homeOf(this.#hash(row), slots.length)] ?? 0;
  }

  #touchEntry(entry: number): void {
    if (entry !== 0) this.touchRow((entry & ROW_BITS) - 1);
  }

  /** The row of a handle, or NO_ROW. */
  find(low: number, high: number): number {
    const slots = this.#slots;
    const handles = this.#handles;
    const { length } = slots;
    const hash = hashOf(low, high);
    const tag = hash & TAG_MASK;
    let slot = homeOf(hash, length);
    for (let distance = 0; ; distance += 1) {
      const entry = slots[slot] ?? 0;
      const other = entry >>> DISTANCE_SHIFT;
      const own = Math.min(distance, FAR);
      if (entry === 0 || other < own) {
        // From FAR on an insertion may displace someone earlier.
        this.#missSlot = distance > FAR ? NOWHERE : slot;
        this.#missDistance = distance;
        this.#missTag = tag;
        return NO_ROW;
      }
      if (other === own && ((entry >>> TAG_SHIFT) & TAG_MASK) === tag) {
        const row = (entry & ROW_BITS) - 1;
        if (handles[2 * row] === low && handles[2 * row + 1] === high) return row;
      }
      slot = slot + 1 === length ? 0 : slot + 1;
    }
  }

  /** Places a row whose handle is in the column and in no slot. */
  insert(row: number): void {
    const hash = this.#hash(row);
    this.#place(row, homeOf(hash, this.#slots.length), 0, hash & TAG_MASK);
  }

  /** Places those rows from `start` to `end` that are in use. */
  insertAll(isUsed: Uint8Array, start: number, end: number): void {
    for (let first = start; first < end; first += MOVED_TOGETHER) {
      const last = Math.min(end, first + MOVED_TOGETHER);
      for (let row = first; row < last; row += 1) if (isUsed[row] !== 0) this.touchRow(row);
      for (let row = first; row < last; row += 1) if (isUsed[row] !== 0) this.insert(row);
    }
  }

  /** Places the row of the handle that `find` has missed last: it goes on where that ended. */
  insertMissed(row: number): void {
    if (this.#missSlot === NOWHERE) this.insert(row);
    else this.#place(row, this.#missSlot, this.#missDistance, this.#missTag);
  }

  /** Takes a row out if it is in a slot. */
  delete(row: number): void {
    const slots = this.#slots;
    const { length } = slots;
    let hole = homeOf(this.#hash(row), length);
    for (let distance = 0; ; distance += 1) {
      const entry = slots[hole] ?? 0;
      if ((entry & ROW_BITS) === row + 1) break;
      if (entry === 0 || entry >>> DISTANCE_SHIFT < Math.min(distance, FAR)) return;
      hole = hole + 1 === length ? 0 : hole + 1;
    }
    this.#missSlot = NOWHERE;
    for (;;) {
      const next = hole + 1 === length ? 0 : hole + 1;
      const entry = slots[next] ?? 0;
      const distance = this.#distanceOf(entry, next);
      if (distance === 0) break;
      slots[hole] = distance > FAR ? entry : entry - DISTANCE_ONE;
      hole = next;
    }
    slots[hole] = 0;
  }

  #place(row: number, start: number, startDistance: number, tag: number): void {
    const slots = this.#slots;
    const { length } = slots;
    let slot = start;
    let distance = startDistance;
    let entry = (tag << TAG_SHIFT) | (row + 1);
    this.#missSlot = NOWHERE;
    for (;;) {
      const other = slots[slot] ?? 0;
      if (other === 0) break;
      const otherDistance = this.#distanceOf(other, slot);
      if (otherDistance < distance) {
        slots[slot] = (Math.min(distance, FAR) << DISTANCE_SHIFT) | entry;
        entry = other & TAG_AND_ROW_BITS;
        distance = otherDistance;
      }
      slot = slot + 1 === length ? 0 : slot + 1;
      distance += 1;
    }
    slots[slot] = (Math.min(distance, FAR) << DISTANCE_SHIFT) | entry;
  }

  /** How far an entry stands from its home. */
  #distanceOf(entry: number, slot: number): number {
    const distance = entry >>> DISTANCE_SHIFT;
    if (distance < FAR) return distance;
    const { length } = this.#slots;
    const home = homeOf(this.#hash((entry & ROW_BITS) - 1), length);
    return home <= slot ? slot - home : slot - home + length;
  }

  #hash(row: number): number {
    const handles = this.#handles;
    return hashOf(handles[2 * row] ?? 0, handles[2 * row + 1] ?? 0);
  }
}

function slotsFor(rows: number): number {
  return Math.ceil(rows / LOAD_MAX) + 1;
}

/** Engines may count their handles up, so the words are mixed (finalizer of MurmurHash3). */
export function hashOf(low: number, high: number): number {
  let hash = low ^ Math.imul(high, 0x9e37_79b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return hash ^ (hash >>> 16);
}

/** By the hash's highest bits; its lowest are the tag. */
function homeOf(hash: number, slots: number): number {
  return ((hash >>> 0) * slots * 2 ** -32) >>> 0;
}
