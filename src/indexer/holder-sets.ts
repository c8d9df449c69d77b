/**
 * Sets of (holder slot, tier) codes, each kept once: what blocks of one chain share.
 *
 * A block has a set's number instead of a list of its own. Codes are sorted, so that a slot's first one
 * is its fastest tier; one that is stored twice is in the set twice. A set never changes: storing and
 * removing lead to another set, and the way there is remembered. Sets without blocks are collected
 * once there are as many of them as others.
 */
import { assert } from "../core/assert.ts";

/** A holder's slot times 4 plus its tier's order. */
export type Code = number;

/** The set without codes. It is never collected. */
export const EMPTY_SET = 0;

/** Ways from set to set that are remembered; a power of two. */
const STEPS = 4096;
/** Sets without blocks that are always kept. */
const UNUSED_MIN = 1024;
/** No way is remembered here. */
const NO_STEP = 0xffff_ffff;

interface HolderSet {
  readonly codes: readonly Code[];
  /** Sum over the codes, so that it follows a single change. */
  readonly hash: number;
  /** Blocks that have this set. */
  blocks: number;
}

export class HolderSets {
  readonly #sets: (HolderSet | null)[] = [{ codes: [], hash: 0, blocks: 0 }];
  readonly #freeNumbers: number[] = [];
  readonly #numbersOfHash = new Map<number, number[]>();
  #unused = 0;
  /** Three words for each way: set, code with its direction, set reached. */
  readonly #steps = new Uint32Array(3 * STEPS).fill(NO_STEP);

  /** Sets with codes. */
  get size(): number {
    return this.#sets.length - this.#freeNumbers.length - 1;
  }

  codesOf(set: number): readonly Code[] {
    return this.#at(set).codes;
  }

  /** One more block has the set. */
  retain(set: number): void {
    if (set === EMPTY_SET) return;
    const held = this.#at(set);
    if (held.blocks === 0) this.#unused -= 1;
    held.blocks += 1;
  }

  /** One block fewer has the set; may collect sets without blocks. */
  release(set: number): void {
    if (set === EMPTY_SET) return;
    const held = this.#at(set);
    held.blocks -= 1;
    if (held.blocks > 0) return;
    this.#unused += 1;
    if (this.#unused > Math.max(UNUSED_MIN, this.size / 2)) this.#collect();
  }

  /** The set with one more such code. */
  with(set: number, code: Code): number {
    return this.#step(set, code, 1);
  }

  /** The set with one such code fewer; the same set where there is none. */
  without(set: number, code: Code): number {
    return this.#step(set, code, 0);
  }

  #step(set: number, code: Code, isStore: 0 | 1): number {
    const way = 2 * code + isStore;
    const at = 3 * ((Math.imul(set, 0x9e37_79b1) + Math.imul(way, 0x85eb_ca6b)) >>> 20);
    if (this.#steps[at] === set && this.#steps[at + 1] === way) return this.#steps[at + 2] ?? 0;
    const reached = isStore === 1 ? this.#add(set, code) : this.#take(set, code);
    this.#steps[at] = set;
    this.#steps[at + 1] = way;
    this.#steps[at + 2] = reached;
    return reached;
  }

  #add(set: number, code: Code): number {
    const { codes, hash } = this.#at(set);
    let position = codes.length;
    while (position > 0 && (codes[position - 1] ?? 0) > code) position -= 1;
    return this.#intern(codes.toSpliced(position, 0, code), (hash + hashOf(code)) >>> 0);
  }

  #take(set: number, code: Code): number {
    const { codes, hash } = this.#at(set);
    const position = codes.indexOf(code);
    if (position === -1) return set;
    return this.#intern(codes.toSpliced(position, 1), (hash - hashOf(code)) >>> 0);
  }

  #intern(codes: readonly Code[], hash: number): number {
    if (codes.length === 0) return EMPTY_SET;
    const numbers = this.#numbersOfHash.get(hash) ?? [];
    for (const number of numbers) if (isSame(this.#at(number).codes, codes)) return number;
    const number = this.#freeNumbers.pop() ?? this.#sets.length;
    this.#sets[number] = { codes, hash, blocks: 0 };
    this.#unused += 1;
    numbers.push(number);
    this.#numbersOfHash.set(hash, numbers);
    return number;
  }

  /** Frees the numbers of sets without blocks, and forgets the ways, which may lead there. */
  #collect(): void {
    for (const [number, set] of this.#sets.entries()) {
      if (number === EMPTY_SET || set === null || set.blocks > 0) continue;
      this.#sets[number] = null;
      this.#freeNumbers.push(number);
      const others = this.#numbersOfHash.get(set.hash)?.filter((other) => other !== number) ?? [];
      if (others.length === 0) this.#numbersOfHash.delete(set.hash);
      else this.#numbersOfHash.set(set.hash, others);
    }
    this.#unused = 0;
    this.#steps.fill(NO_STEP);
  }

  #at(set: number): HolderSet {
    const found = this.#sets[set];
    assert(found !== undefined && found !== null, "a set that does not exist", { set });
    return found;
  }
}

function isSame(a: readonly Code[], b: readonly Code[]): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return false;
  return true;
}

function hashOf(code: Code): number {
  const mixed = Math.imul(code + 1, 0x9e37_79b1);
  return Math.imul(mixed ^ (mixed >>> 15), 0x85eb_ca6b) >>> 0;
}
