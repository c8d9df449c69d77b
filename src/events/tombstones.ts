/**
 * Removed handles and the keys they had, oldest forgotten first: found by handle and by key.
 *
 * A ring of the removals in their order. Of those whose handles hash alike each names the one before it,
 * and a head the last: as a place is used again only when all older ones are, nobody is ever taken out of
 * such a chain. It ends at a place that is gone, or lies behind the one that named it. What is taken back
 * stays in the ring as stale, and is squeezed out when that is full, so that every operation costs a
 * constant on average. Memory: 32 bytes for each place, of which there are at most four times the limit.
 */
import { assert } from "../core/assert.ts";
import { hashOf } from "../indexer/handle-slots.ts";
import { U64Cell } from "../indexer/u64-words.ts";

/** No place: an absent handle. */
export const NO_PLACE = -1;

/** A power of two, as all lengths. */
const CAPACITY_MIN = 64;
/** A link: stale or not, bits of the hash that are never all 0, and the removal's number. 0: none. */
const STALE = 0x8000_0000;
const NOT_STALE = 0x7fff_ffff;
const TAG_MASK = 0x7ff0_0000;
const TAG_SET = 0x0010_0000;
/** Removals are counted on and on, of which this is the remainder; places are remainders of that. */
const NUMBER_MASK = 0x000f_ffff;

const cell = new U64Cell();
/** Written and never read, so that no compiler leaves a touch out. */
const touchedCell = new Uint32Array(1);

/** Chains of places with like hashes. */
interface Chains {
  /** Two words for each place, low first. */
  readonly words: Uint32Array;
  readonly heads: Uint32Array;
  /** The link before, for each place. */
  readonly links: Uint32Array;
}

export class Tombstones {
  readonly #sizeMax: number;
  #capacity = CAPACITY_MIN;
  #handles = chainsOf(CAPACITY_MIN);
  #keys = chainsOf(CAPACITY_MIN);
  /** Number of the next removal. */
  #end = 0;
  /** Places in use, stale ones among them. */
  #used = 0;
  #size = 0;

  /** `sizeMax`: handles at most, up to 65,536; for one more the oldest is forgotten. */
  constructor(sizeMax: number) {
    assert(8 * sizeMax <= NUMBER_MASK + 1, "more removals than their numbers tell apart");
    this.#sizeMax = sizeMax;
  }

  get size(): number {
    return this.#size;
  }

  get byteLength(): number {
    const { words, heads, links } = this.#handles;
    return 2 * (words.byteLength + heads.byteLength + links.byteLength);
  }

  /** Appends a handle that is not there, and its key. */
  push(low: number, high: number, keyLow: number, keyHigh: number): void {
    if (this.#size === this.#sizeMax) this.#forgetOldest();
    if (this.#used === this.#capacity) this.#squeeze();
    this.#append(this.#handles, low, high);
    this.#append(this.#keys, keyLow, keyHigh);
    this.#end = (this.#end + 1) & NUMBER_MASK;
    this.#used += 1;
    this.#size += 1;
  }

  /** Where a handle lies, or NO_PLACE. */
  find(low: number, high: number): number {
    return this.#find(this.#handles, low, high);
  }

  hasKey(low: number, high: number): boolean {
    return this.#find(this.#keys, low, high) !== NO_PLACE;
  }

  keyLow(place: number): number {
    return this.#keys.words[2 * place] ?? 0;
  }

  keyHigh(place: number): number {
    return this.#keys.words[2 * place + 1] ?? 0;
  }

  /** Takes a handle out. */
  takeBack(place: number): void {
    const { links } = this.#keys;
    links[place] = (links[place] ?? 0) | STALE;
    this.#size -= 1;
  }

  clear(): void {
    this.#resize(CAPACITY_MIN);
    this.#size = 0;
  }

  /** Loads what looking up these handles will need: done for many at once, it saves waiting. */
  touch(handles: BigUint64Array): void {
    touchHeads(this.#handles.heads, handles);
  }

  /** The same for keys. */
  touchKeys(keys: BigUint64Array): void {
    touchHeads(this.#keys.heads, keys);
  }

  #append({ words, heads, links }: Chains, low: number, high: number): void {
    const place = this.#end & (this.#capacity - 1);
    const hash = hashOf(low, high);
    const head = hash & (this.#capacity - 1);
    words[2 * place] = low;
    words[2 * place + 1] = high;
    links[place] = heads[head] ?? 0;
    heads[head] = tagOf(hash) | this.#end;
  }

  #find({ words, heads, links }: Chains, low: number, high: number): number {
    const last = this.#capacity - 1;
    const hash = hashOf(low, high);
    const tag = tagOf(hash);
    let link = heads[hash & last] ?? 0;
    let age = 0;
    while (link !== 0) {
      const older = (this.#end - link) & NUMBER_MASK;
      if (older <= age || older > this.#used) return NO_PLACE;
      age = older;
      const place = link & last;
      const isLike = ((link ^ tag) & TAG_MASK) === 0;
      if (isLike && words[2 * place] === low && words[2 * place + 1] === high) {
        if (!this.#isStale(place)) return place;
      }
      link = (links[place] ?? 0) & NOT_STALE;
    }
    return NO_PLACE;
  }

  #isStale(place: number): boolean {
    return (this.#keys.links[place] ?? 0) >= STALE;
  }

  #placeOf(age: number): number {
    return (this.#end - age) & (this.#capacity - 1);
  }

  #forgetOldest(): void {
    while (this.#isStale(this.#placeOf(this.#used))) this.#used -= 1;
    this.#used -= 1;
    this.#size -= 1;
  }

  /** Makes room: leaves out what is stale, and doubles where that is less than half. */
  #squeeze(): void {
    const [handles, keys] = [this.#handles.words, this.#keys.words];
    const kept: number[] = [];
    for (let age = this.#used; age > 0; age -= 1) {
      const place = this.#placeOf(age);
      if (!this.#isStale(place)) kept.push(place);
    }
    const isHoley = kept.length <= this.#capacity / 2;
    const capacity = isHoley ? this.#capacity : 2 * this.#capacity;
    assert(capacity <= 4 * this.#sizeMax + CAPACITY_MIN, "ring over its limit", { capacity });
    this.#resize(capacity);
    for (const place of kept) {
      this.#append(this.#handles, handles[2 * place] ?? 0, handles[2 * place + 1] ?? 0);
      this.#append(this.#keys, keys[2 * place] ?? 0, keys[2 * place + 1] ?? 0);
      this.#end += 1;
    }
    this.#used = kept.length;
  }

  /** Begins anew, with room for so many. */
  #resize(capacity: number): void {
    this.#capacity = capacity;
    this.#handles = chainsOf(capacity);
    this.#keys = chainsOf(capacity);
    this.#end = 0;
    this.#used = 0;
  }
}

function chainsOf(capacity: number): Chains {
  const words = new Uint32Array(2 * capacity);
  return { words, heads: new Uint32Array(capacity), links: new Uint32Array(capacity) };
}

function tagOf(hash: number): number {
  return (hash & TAG_MASK) | TAG_SET;
}

function touchHeads(heads: Uint32Array, values: BigUint64Array): void {
  let touched = 0;
  for (let at = 0; at < values.length; at += 1) {
    cell.set(values[at] ?? 0n);
    touched += heads[hashOf(cell.low, cell.high) & (heads.length - 1)] ?? 0;
  }
  touchedCell[0] = touched;
}
