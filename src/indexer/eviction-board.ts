/**
 * Tells whether one block left one endpoint since a moment: a prediction made at that moment was
 * then right when it was made, and stale when it was used.
 *
 * Shared memory between the readers' thread, which watches, and the writer's, which reports every
 * removal and waits for nobody. A watched block has one of four places, chosen by its key, with a
 * fingerprint and a count of removals: 46 bits of key and endpoint are compared, and two that agree
 * in them would count for each other. Cost of a report: four loads.
 */
import type { EndpointId } from "../core/ids.ts";

/** Blocks watched at once; one beyond its four places counts as never evicted. */
export const WATCHED_BLOCKS_MAX = 65_536;
const PLACES = 4;
const GROUPS_MASK = WATCHED_BLOCKS_MAX / PLACES - 1;
const WORDS_MASK = 0xffff_ffffn;

export interface WatchedBlock {
  readonly endpointId: EndpointId;
  readonly key: bigint;
  /** True once any tier of any rank of the endpoint has lost the block. */
  readonly isEvicted: boolean;
}

const NOT_HASHED = { endpointId: null, hash: 0 } as const;

/** A place in use, shared by all who watch its block. */
interface Place {
  readonly name: string;
  readonly at: number;
  watchers: number;
}

class Watched implements WatchedBlock {
  readonly endpointId: EndpointId;
  readonly key: bigint;
  place: Place | null;
  readonly #removals: Int32Array;
  readonly #before: number;
  #isEvicted = false;

  constructor(block: Pick<Watched, "endpointId" | "key" | "place">, removals: Int32Array) {
    this.endpointId = block.endpointId;
    this.key = block.key;
    this.place = block.place;
    this.#removals = removals;
    this.#before = block.place === null ? 0 : Atomics.load(removals, block.place.at);
  }

  get isEvicted(): boolean {
    if (this.place === null) return this.#isEvicted;
    return Atomics.load(this.#removals, this.place.at) !== this.#before;
  }

  /** Keeps the answer: the place may be another block's from now on. */
  leave(): void {
    this.#isEvicted = this.isEvicted;
    this.place = null;
  }
}

export class EvictionBoard {
  /** To be handed to the other thread. */
  readonly memory: SharedArrayBuffer;
  readonly #fingerprints: Int32Array;
  readonly #removals: Int32Array;
  readonly #places = new Map<string, Place>();
  /** Of the endpoint before: removals come in runs. */
  #hashed: { readonly endpointId: EndpointId | null; readonly hash: number } = NOT_HASHED;

  constructor(memory = new SharedArrayBuffer(8 * WATCHED_BLOCKS_MAX)) {
    this.memory = memory;
    this.#fingerprints = new Int32Array(memory, 0, WATCHED_BLOCKS_MAX);
    this.#removals = new Int32Array(memory, 4 * WATCHED_BLOCKS_MAX, WATCHED_BLOCKS_MAX);
  }

  /** Blocks watched now. */
  get size(): number {
    return this.#places.size;
  }

  /** Readers' thread: watches a block from now on, until `unwatch`. */
  watch(endpointId: EndpointId, key: bigint): WatchedBlock {
    const name = `${endpointId} ${key}`;
    const place = this.#places.get(name) ?? this.#claim(endpointId, key, name);
    if (place !== null) place.watchers += 1;
    return new Watched({ endpointId, key, place }, this.#removals);
  }

  unwatch(block: WatchedBlock): void {
    if (!(block instanceof Watched) || block.place === null) return;
    const { place } = block;
    block.leave();
    place.watchers -= 1;
    if (place.watchers > 0) return;
    this.#places.delete(place.name);
    Atomics.store(this.#fingerprints, place.at, 0);
  }

  /** Writer's thread: a tier of the endpoint has lost the block. */
  removed(endpointId: EndpointId, low: number, high: number): void {
    const hash = this.#hashOf(endpointId);
    const print = fingerprintOf(hash, low);
    const first = firstOf(hash, high);
    for (let at = first; at < first + PLACES; at += 1) {
      if (Atomics.load(this.#fingerprints, at) === print) Atomics.add(this.#removals, at, 1);
    }
  }

  #claim(endpointId: EndpointId, key: bigint, name: string): Place | null {
    const hash = this.#hashOf(endpointId);
    const first = firstOf(hash, Number(key >> 32n));
    for (let at = first; at < first + PLACES; at += 1) {
      if (Atomics.load(this.#fingerprints, at) !== 0) continue;
      const place = { name, at, watchers: 0 };
      this.#places.set(name, place);
      Atomics.store(this.#fingerprints, at, fingerprintOf(hash, Number(key & WORDS_MASK)));
      return place;
    }
    return null;
  }

  #hashOf(endpointId: EndpointId): number {
    if (this.#hashed.endpointId !== endpointId) {
      this.#hashed = { endpointId, hash: fnv1a(endpointId) };
    }
    return this.#hashed.hash;
  }
}

/** The same in both threads. */
function fnv1a(text: string): number {
  let hash = 0x811c_9dc5;
  for (let at = 0; at < text.length; at += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x0100_0193);
  }
  return hash;
}

/** Never 0, which marks a free place. */
function fingerprintOf(hash: number, low: number): number {
  const print = (hash ^ low) | 0;
  return print === 0 ? 1 : print;
}

function firstOf(hash: number, high: number): number {
  return PLACES * (((hash >>> 7) ^ high) & GROUPS_MASK);
}
