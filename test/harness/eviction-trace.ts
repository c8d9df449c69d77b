/**
 * Engines with full caches, and requests that ask for popular prompts more often than for others: what an
 * index without room for all of it should keep. With it the plain least-recently-used lists that a real
 * index is held against.
 */
import { seededRandom } from "../../src/core/random.ts";

/** An index as the trace sees it; holders by number, keys of one prompt in order. */
export interface TracedIndex {
  stored(holder: number, keys: readonly bigint[]): void;
  removed(holder: number, keys: readonly bigint[]): void;
  /** Leading blocks that the holder is known to have. */
  match(holder: number, keys: readonly bigint[]): number;
}

export interface TraceOptions {
  readonly holders: number;
  /** Blocks of each engine's cache. */
  readonly engineBlocks: number;
  /** Prompts that are asked for at one time; of the n-th, 1 / n ** `zipf` as often as of the first. */
  readonly prompts: number;
  readonly zipf: number;
  /** Share of requests before which a prompt is given up for a new one. */
  readonly drift: number;
  readonly requests: number;
  readonly seed: number;
}

/** Prompts so popular that every engine serves them. */
const EVERYWHERE = 8;
const BLOCKS_MIN = 8;
const BLOCKS_MAX = 64;

/** Share of what the engines had of the prompts that the index knew of, after a third of the requests. */
export function hitRate(index: TracedIndex, options: TraceOptions): number {
  const { holders, engineBlocks, prompts, zipf, drift, requests, seed } = options;
  const random = seededRandom(seed);
  const weights = Array.from({ length: prompts }, (_, rank) => 1 / (rank + 1) ** zipf);
  const promptOf = Array.from({ length: prompts }, (_, rank) => rank);
  let newest = prompts;
  const engines = Array.from({ length: holders }, () => new Set<bigint>());
  let held = 0;
  let found = 0;
  for (let request = 0; request < requests; request += 1) {
    if (random.next() < drift) {
      promptOf[Math.floor(random.next() * prompts)] = newest;
      newest += 1;
    }
    const rank = drawn(weights, random.next());
    const prompt = promptOf[rank] ?? 0;
    const engine = rank < EVERYWHERE ? Math.floor(random.next() * holders) : prompt % holders;
    const cache = engines[engine] ?? new Set();
    const keys = keysOf(prompt);
    const truth = leading(keys, (key) => cache.has(key));
    const known = index.match(engine, keys);
    if (request > requests / 3) {
      held += truth;
      found += Math.min(known, truth);
    }
    const missing = keys.filter((key) => !cache.has(key));
    for (const key of keys.toReversed()) used(cache, key);
    const evicted = overflow(cache, engineBlocks);
    if (evicted.length > 0) index.removed(engine, evicted);
    if (missing.length > 0) index.stored(engine, missing);
  }
  return found / held;
}

/** Forgets what was used least lately: stored, or, if `isByMatch`, matched too. Exact to the block. */
export class PlainLru implements TracedIndex {
  readonly #entriesMax: number;
  readonly #isByMatch: boolean;
  readonly #entries = new Set<string>();

  constructor(entriesMax: number, isByMatch: boolean) {
    this.#entriesMax = entriesMax;
    this.#isByMatch = isByMatch;
  }

  stored(holder: number, keys: readonly bigint[]): void {
    for (const key of keys.toReversed()) used(this.#entries, `${holder} ${key}`);
    overflow(this.#entries, this.#entriesMax);
  }

  removed(holder: number, keys: readonly bigint[]): void {
    for (const key of keys) this.#entries.delete(`${holder} ${key}`);
  }

  match(holder: number, keys: readonly bigint[]): number {
    const blocks = leading(keys, (key) => this.#entries.has(`${holder} ${key}`));
    if (this.#isByMatch) {
      for (const key of keys.slice(0, blocks).reverse()) used(this.#entries, `${holder} ${key}`);
    }
    return blocks;
  }
}

function drawn(weights: readonly number[], chance: number): number {
  let rest = chance * weights.reduce((sum, weight) => sum + weight, 0);
  return weights.findIndex((weight) => {
    rest -= weight;
    return rest < 0;
  });
}

function keysOf(prompt: number): bigint[] {
  const blocks = BLOCKS_MIN + ((Math.imul(prompt, 40_503) >>> 3) % (BLOCKS_MAX - BLOCKS_MIN + 1));
  return Array.from({ length: blocks }, (_, at) =>
    BigInt.asUintN(64, BigInt(prompt * BLOCKS_MAX + at + 1) * 0x9e37_79b9_7f4a_7c15n),
  );
}

function leading(keys: readonly bigint[], has: (key: bigint) => boolean): number {
  const end = keys.findIndex((key) => !has(key));
  return end === -1 ? keys.length : end;
}

function used<Entry>(entries: Set<Entry>, entry: Entry): void {
  entries.delete(entry);
  entries.add(entry);
}

function overflow<Entry>(entries: Set<Entry>, max: number): Entry[] {
  const gone: Entry[] = [];
  for (const entry of entries) {
    if (entries.size <= max) break;
    entries.delete(entry);
    gone.push(entry);
  }
  return gone;
}
