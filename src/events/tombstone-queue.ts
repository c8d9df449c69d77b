/**
 * Ids in the order in which they were pushed, any of which can be taken out again by its place.
 *
 * Taking out leaves a hole; holes are squeezed out when the end is reached, so that every operation
 * costs a constant on average. Bounded by twice the limit.
 */
import { assert } from "../core/assert.ts";

/** Stands where an id was taken out; ids are below it. */
const HOLE = 0xffff_ffff;
const CAPACITY_MIN = 64;

export class TombstoneQueue {
  readonly #sizeMax: number;
  #ids = new Uint32Array(CAPACITY_MIN);
  #start = 0;
  #end = 0;
  #size = 0;

  /** `sizeMax`: ids at most; the caller shifts one out when there is one more. */
  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
  }

  get size(): number {
    return this.#size;
  }

  get byteLength(): number {
    return this.#ids.byteLength;
  }

  /** Makes room for one push. True when places have changed: the caller notes them anew. */
  makeRoom(): boolean {
    if (this.#end < this.#ids.length) return false;
    const isHoley = this.#size <= this.#ids.length / 2;
    const length = isHoley ? this.#ids.length : 2 * this.#ids.length;
    assert(length <= 4 * this.#sizeMax + CAPACITY_MIN, "queue over its limit", { length });
    const ids = new Uint32Array(length);
    let end = 0;
    for (let place = this.#start; place < this.#end; place += 1) {
      const id = this.#ids[place] ?? HOLE;
      if (id === HOLE) continue;
      ids[end] = id;
      end += 1;
    }
    this.#ids = ids;
    this.#start = 0;
    this.#end = end;
    return true;
  }

  /** Appends an id after `makeRoom`; returns its place. */
  push(id: number): number {
    const place = this.#end;
    this.#ids[place] = id;
    this.#end += 1;
    this.#size += 1;
    return place;
  }

  takeOut(place: number): void {
    this.#ids[place] = HOLE;
    this.#size -= 1;
  }

  /** Takes the oldest id out. */
  shift(): number {
    assert(this.#size > 0, "shift of an empty queue");
    while (this.#ids[this.#start] === HOLE) this.#start += 1;
    const id = this.#ids[this.#start] ?? HOLE;
    this.#start += 1;
    this.#size -= 1;
    return id;
  }

  /** Every (id, place), oldest first. */
  *places(): Generator<readonly [number, number]> {
    for (let place = this.#start; place < this.#end; place += 1) {
      const id = this.#ids[place] ?? HOLE;
      if (id !== HOLE) yield [id, place];
    }
  }

  clear(): void {
    this.#ids = new Uint32Array(CAPACITY_MIN);
    this.#start = 0;
    this.#end = 0;
    this.#size = 0;
  }
}
