/**
 * Engine handle -> row of a holder's table: open addressing in four bytes a slot.
 *
 * Robin Hood hashing: a slot has its row and how far it stands from where its hash points, and whoever
 * stands farther displaces whoever stands nearer. So a look-up compares only rows of its own distance,
 * ends where nearer ones begin, and stays short at a load of 0.8; deletion shifts back without reading
 * a handle. The handles themselves are the caller's column. Memory: 5 to 10 bytes per row.
 */

/** Rows that a slot can name. */
export const ROWS_MAX = 16_777_214;
/** No row: an absent handle. */
export const NO_ROW = -1;

/** Slots in use per slot, at most. */
const LOAD_MAX = 0.8;
/** Slots made at a growth, for each that is needed: the next one comes later. */
const SLACK = 1.125;
const ROW_BITS = 0xff_ffff;
/** The distance is this or more, or has been: the handle itself tells. Only hostile handles get there. */
const FAR = 255;

export class HandleSlots {
  /** Two words for each row, low first. */
  #handles: Uint32Array;
  /** Distance in the highest byte, row + 1 below; 0: free. */
  #slots: Uint32Array;

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
    for (let row = 0; row < rowEnd; row += 1) if (isUsed[row] !== 0) this.insert(row);
  }

  /** The column has moved, and so many rows are to come in all. */
  moveTo(handles: Uint32Array, rows: number): void {
    this.#handles = handles;
    const from = this.#slots;
    if (slotsFor(rows) <= from.length) return;
    this.#slots = new Uint32Array(slotsFor(rows * SLACK));
    // In the order of their slots, which they nearly keep.
    for (const entry of from) if (entry !== 0) this.insert((entry & ROW_BITS) - 1);
  }

  /** The row of a handle, or NO_ROW. */
  find(low: number, high: number): number {
    const slots = this.#slots;
    const handles = this.#handles;
    const { length } = slots;
    let slot = homeOf(low, high, length);
    for (let distance = 0; ; distance += 1) {
      const entry = slots[slot] ?? 0;
      const other = entry >>> 24;
      const own = Math.min(distance, FAR);
      if (entry === 0 || other < own) return NO_ROW;
      if (other === own || other === FAR) {
        const row = (entry & ROW_BITS) - 1;
        if (handles[2 * row] === low && handles[2 * row + 1] === high) return row;
      }
      slot = slot + 1 === length ? 0 : slot + 1;
    }
  }

  /** Places a row whose handle is in the column and in no slot. */
  insert(row: number): void {
    const slots = this.#slots;
    const { length } = slots;
    let slot = this.#home(row);
    let distance = 0;
    let entry = row + 1;
    for (;;) {
      const other = slots[slot] ?? 0;
      if (other === 0) break;
      if (other >>> 24 < distance) {
        slots[slot] = (distance << 24) | entry;
        entry = other & ROW_BITS;
        distance = other >>> 24;
      }
      slot = slot + 1 === length ? 0 : slot + 1;
      if (distance < FAR) distance += 1;
    }
    slots[slot] = (distance << 24) | entry;
  }

  /** Takes a row out that is in a slot. */
  delete(row: number): void {
    const slots = this.#slots;
    const { length } = slots;
    let hole = this.#home(row);
    while (((slots[hole] ?? 0) & ROW_BITS) !== row + 1) hole = hole + 1 === length ? 0 : hole + 1;
    for (;;) {
      const next = hole + 1 === length ? 0 : hole + 1;
      const entry = slots[next] ?? 0;
      const distance = entry >>> 24;
      if (distance === 0) break;
      if (distance === FAR) {
        if (this.#home((entry & ROW_BITS) - 1) === next) break;
        slots[hole] = entry;
      } else slots[hole] = entry - 0x100_0000;
      hole = next;
    }
    slots[hole] = 0;
  }

  #home(row: number): number {
    const handles = this.#handles;
    return homeOf(handles[2 * row] ?? 0, handles[2 * row + 1] ?? 0, this.#slots.length);
  }
}

function slotsFor(rows: number): number {
  return Math.ceil(rows / LOAD_MAX) + 1;
}

/** Engines may count their handles up, so the words are mixed (finalizer of MurmurHash3). */
function homeOf(low: number, high: number, slots: number): number {
  let hash = low ^ Math.imul(high, 0x9e37_79b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return (((hash ^ (hash >>> 16)) >>> 0) * slots * 2 ** -32) >>> 0;
}
