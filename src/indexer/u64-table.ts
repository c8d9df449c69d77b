/**
 * Unsigned 64-bit keys -> small dense ids, on typed arrays: what Map<bigint> does, without its boxes.
 *
 * A key is two 32-bit words, because a bigint costs an allocation. Ids are given in the order of
 * insertion and reused, the latest freed first, so that keys stored one after the other lie side by
 * side: `find` looks there first, and only then hashes. Callers keep what belongs to a key in columns
 * of their own, `capacity` long. Open addressing with linear probing, load at most 0.6, deletion by
 * shifting back. Memory: 9 bytes per id and 8 per slot, 23 to 37 bytes per key when grown by doubling.
 */

/** Ids before the first growth. */
const CAPACITY_MIN = 64;
/** Slots in use per slot, at most: misses grow steeply beyond it. */
const LOAD_MAX = 0.6;
/** No id: `find` of an absent key, and the end of the list of free ids. */
export const NO_ID = -1;

export class U64Table {
  /** Two words for each id: low, high. A free id has its successor in the list of free ids. */
  #keys = new Uint32Array(2 * CAPACITY_MIN);
  #isLive = new Uint8Array(CAPACITY_MIN);
  /** Two words for each slot: the key's hash, and its id + 1 or 0. */
  #slots = new Uint32Array(4 * CAPACITY_MIN);
  #slotMask = 2 * CAPACITY_MIN - 1;
  #size = 0;
  /** Ids given so far; those behind were never used. */
  #idNext = 0;
  #freeFirst = NO_ID;

  get size(): number {
    return this.#size;
  }

  /** Ids that fit without growth; columns beside the table are as long. */
  get capacity(): number {
    return this.#isLive.length;
  }

  /** Ids run from 0 to below this one; not each of them is live. */
  get idEnd(): number {
    return this.#idNext;
  }

  get byteLength(): number {
    return this.#keys.byteLength + this.#isLive.byteLength + this.#slots.byteLength;
  }

  isLive(id: number): boolean {
    return this.#isLive[id] === 1;
  }

  low(id: number): number {
    return this.#keys[2 * id] ?? 0;
  }

  high(id: number): number {
    return this.#keys[2 * id + 1] ?? 0;
  }

  /** The id of a key, or NO_ID. `near`: id of the key stored before or after it, if one is known. */
  find(low: number, high: number, near: number): number {
    if (this.#isAt(near + 1, low, high)) return near + 1;
    if (this.#isAt(near - 1, low, high)) return near - 1;
    return this.#findHashed(low, high);
  }

  /** Gives an absent key its id. The caller has made sure that it is absent. */
  insert(low: number, high: number): number {
    let id = this.#freeFirst;
    if (id === NO_ID) {
      if (this.#idNext === this.#isLive.length) this.#growIds();
      id = this.#idNext;
      this.#idNext += 1;
    } else {
      this.#freeFirst = (this.#keys[2 * id] ?? 0) - 1;
    }
    this.#keys[2 * id] = low;
    this.#keys[2 * id + 1] = high;
    this.#isLive[id] = 1;
    this.#size += 1;
    if (this.#size > LOAD_MAX * (this.#slotMask + 1)) this.#growSlots();
    place(this.#slots, this.#slotMask, hashOf(low, high), id);
    return id;
  }

  /** Frees a live id. */
  delete(id: number): void {
    const slots = this.#slots;
    const mask = this.#slotMask;
    let hole = hashOf(this.low(id), this.high(id)) & mask;
    while (slots[2 * hole + 1] !== id + 1) hole = (hole + 1) & mask;
    // Whoever was pushed on beyond the hole, and may stand in it, moves back.
    for (let slot = (hole + 1) & mask; slots[2 * slot + 1] !== 0; slot = (slot + 1) & mask) {
      const home = (slots[2 * slot] ?? 0) & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[2 * hole] = slots[2 * slot] ?? 0;
      slots[2 * hole + 1] = slots[2 * slot + 1] ?? 0;
      hole = slot;
    }
    slots[2 * hole + 1] = 0;
    this.#isLive[id] = 0;
    this.#keys[2 * id] = this.#freeFirst + 1;
    this.#freeFirst = id;
    this.#size -= 1;
  }

  /** Forgets all keys and gives the memory back. */
  clear(): void {
    this.#keys = new Uint32Array(2 * CAPACITY_MIN);
    this.#isLive = new Uint8Array(CAPACITY_MIN);
    this.#slots = new Uint32Array(4 * CAPACITY_MIN);
    this.#slotMask = 2 * CAPACITY_MIN - 1;
    this.#size = 0;
    this.#idNext = 0;
    this.#freeFirst = NO_ID;
  }

  #isAt(id: number, low: number, high: number): boolean {
    return (
      id >= 0 &&
      id < this.#idNext &&
      this.#keys[2 * id] === low &&
      this.#keys[2 * id + 1] === high &&
      this.#isLive[id] === 1
    );
  }

  #findHashed(low: number, high: number): number {
    const slots = this.#slots;
    const keys = this.#keys;
    const mask = this.#slotMask;
    const hash = hashOf(low, high);
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const next = slots[2 * slot + 1] ?? 0;
      if (next === 0) return NO_ID;
      const id = next - 1;
      if (slots[2 * slot] === hash && keys[2 * id] === low && keys[2 * id + 1] === high) return id;
    }
  }

  #growIds(): void {
    const capacity = 2 * this.#isLive.length;
    this.#keys = grown(this.#keys, new Uint32Array(2 * capacity));
    this.#isLive = grown(this.#isLive, new Uint8Array(capacity));
  }

  #growSlots(): void {
    const from = this.#slots;
    const slots = new Uint32Array(2 * from.length);
    const mask = slots.length / 2 - 1;
    for (let at = 0; at < from.length; at += 2) {
      const next = from[at + 1] ?? 0;
      if (next !== 0) place(slots, mask, from[at] ?? 0, next - 1);
    }
    this.#slots = slots;
    this.#slotMask = mask;
  }
}

/** Copies a column into a longer one. */
export function grown<Column extends Uint8Array | Uint16Array | Uint32Array>(
  from: Column,
  to: Column,
): Column {
  to.set(from);
  return to;
}

function place(slots: Uint32Array, mask: number, hash: number, id: number): void {
  let slot = hash & mask;
  while (slots[2 * slot + 1] !== 0) slot = (slot + 1) & mask;
  slots[2 * slot] = hash;
  slots[2 * slot + 1] = id + 1;
}

/** Engines may count their handles up, so the words are mixed (finalizer of MurmurHash3). */
function hashOf(low: number, high: number): number {
  let hash = low ^ Math.imul(high, 0x9e37_79b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
