/**
 * Blocks of the requests in flight, by endpoint: what it holds or is about to compute.
 *
 * A prompt's blocks count from its dispatch, so that the next prompt with the same beginning is sent
 * after it although no event has told of them. Apart from the index and never mixed into it. A request
 * has all blocks of its prompt here, and a key stands for all before it: so prompts are a tree, whose
 * nodes are the runs of blocks between two places where prompts part or end. Cost: some 100 ns for
 * each node on the way and 1 ns per block, however many of them others have; memory: the keys of the
 * distinct blocks.
 */
import type { EndpointId } from "../core/ids.ts";

/** Blocks that the same requests have, one after the other. */
interface Run {
  /** Its own copy, in u32 words, which compare without a bigint for each. Not empty. */
  words: Uint32Array;
  parent: Run | null;
  /** By the key of their first block. */
  children: Map<bigint, Run>;
  /** Requests that have it, by endpoint: at least one. */
  readonly requests: Map<EndpointId, number>;
}

const WORDS_PER_KEY = 2;

export class InflightBlocks {
  readonly #roots = new Map<bigint, Run>();
  /** Distinct blocks of the endpoints that have any. */
  readonly #blocks = new Map<EndpointId, number>();

  /** Returns how many distinct blocks the endpoint's requests have now. */
  add(endpointId: EndpointId, keys: BigUint64Array): number {
    const words = wordsOf(keys);
    let parent: Run | null = null;
    let newBlocks = 0;
    for (let at = 0; at < words.length; ) {
      const run = this.#runAt(parent, words, at);
      const before: number = run.requests.get(endpointId) ?? 0;
      run.requests.set(endpointId, before + 1);
      if (before === 0) newBlocks += run.words.length / WORDS_PER_KEY;
      at += run.words.length;
      parent = run;
    }
    return this.#grow(endpointId, newBlocks);
  }

  /** Takes back what was added once. Returns how many distinct blocks are left. */
  remove(endpointId: EndpointId, keys: BigUint64Array): number {
    const path: Run[] = [];
    let runs = this.#roots;
    for (let at = 0; at < keys.length; ) {
      const run: Run | undefined = runs.get(keys[at] ?? 0n);
      if (run === undefined || !run.requests.has(endpointId)) break;
      path.push(run);
      runs = run.children;
      at += run.words.length / WORDS_PER_KEY;
    }
    let goneBlocks = 0;
    // From the end on: a run that is left with one child has none that was left by this request.
    for (const run of path.reverse()) {
      const left = (run.requests.get(endpointId) ?? 0) - 1;
      if (left > 0) run.requests.set(endpointId, left);
      else {
        run.requests.delete(endpointId);
        goneBlocks += run.words.length / WORDS_PER_KEY;
      }
      if (run.requests.size === 0) this.#childrenOf(run.parent).delete(firstKey(run));
      else joinOnlyChild(run);
    }
    return this.#grow(endpointId, -goneBlocks);
  }

  /** Leading blocks of the prompt that requests at each endpoint have. */
  leading(keys: BigUint64Array): { readonly endpointId: EndpointId; readonly blocks: number }[] {
    const words = wordsOf(keys);
    const blocksAt = new Map<EndpointId, number>();
    let runs = this.#roots;
    for (let at = 0; at < words.length; ) {
      const run = runs.get(keys[at / WORDS_PER_KEY] ?? 0n);
      if (run === undefined) break;
      const shared = sharedWords(run.words, words, at);
      at += shared;
      for (const endpointId of run.requests.keys()) blocksAt.set(endpointId, at / WORDS_PER_KEY);
      if (shared < run.words.length) break;
      runs = run.children;
    }
    return [...blocksAt].map(([endpointId, blocks]) => ({ endpointId, blocks }));
  }

  /** The run that begins with the prompt's words from `at` on and has none that are not the prompt's. */
  #runAt(parent: Run | null, words: Uint32Array, at: number): Run {
    const siblings = this.#childrenOf(parent);
    const key = keyAt(words, at);
    const found = siblings.get(key);
    if (found === undefined) {
      const own = { words: words.slice(at), parent, children: new Map(), requests: new Map() };
      siblings.set(key, own);
      return own;
    }
    const shared = sharedWords(found.words, words, at);
    if (shared === found.words.length) return found;
    const front: Run = {
      words: found.words.slice(0, shared),
      parent,
      children: new Map(),
      requests: new Map(found.requests),
    };
    found.words = found.words.slice(shared);
    found.parent = front;
    front.children.set(firstKey(found), found);
    siblings.set(key, front);
    return front;
  }

  #childrenOf(run: Run | null): Map<bigint, Run> {
    return run === null ? this.#roots : run.children;
  }

  #grow(endpointId: EndpointId, blocks: number): number {
    const total = (this.#blocks.get(endpointId) ?? 0) + blocks;
    if (total === 0) this.#blocks.delete(endpointId);
    else this.#blocks.set(endpointId, total);
    return total;
  }
}

/** Where every request of a run goes on with its only child, they are one run. */
function joinOnlyChild(run: Run): void {
  if (run.children.size !== 1) return;
  for (const child of run.children.values()) {
    if (requestsOf(child) !== requestsOf(run)) return;
    const words = new Uint32Array(run.words.length + child.words.length);
    words.set(run.words);
    words.set(child.words, run.words.length);
    run.words = words;
    run.children = child.children;
    for (const grandchild of run.children.values()) grandchild.parent = run;
  }
}

function requestsOf({ requests }: Run): number {
  let sum = 0;
  for (const count of requests.values()) sum += count;
  return sum;
}

/** A view. */
function wordsOf(keys: BigUint64Array): Uint32Array {
  return new Uint32Array(keys.buffer, keys.byteOffset, keys.length * WORDS_PER_KEY);
}

function firstKey({ words }: Run): bigint {
  return keyAt(words, 0);
}

function keyAt(words: Uint32Array, at: number): bigint {
  return (BigInt(words[at + 1] ?? 0) << 32n) | BigInt(words[at] ?? 0);
}

/** Words of whole keys with which `run` and `words` from `at` on begin alike. */
function sharedWords(run: Uint32Array, words: Uint32Array, at: number): number {
  const most = Math.min(run.length, words.length - at);
  let shared = 0;
  while (shared < most && run[shared] === words[at + shared]) shared += 1;
  return shared & ~1;
}
