/**
 * Free blocks in the order in which they will be taken: a linked list inside two arrays, so that a
 * block leaves the middle (a prefix hit) in constant time.
 */
import { assert } from "../../core/assert.ts";

/** Slot 0 is the list's end marker: the pool's null block, which is never free. */
const END = 0;

export class FreeQueue {
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  #length = 0;

  /** Holds any of the blocks 1 to blocks - 1; starts empty. */
  constructor(blocks: number) {
    this.#next = new Int32Array(blocks).fill(-1);
    this.#previous = new Int32Array(blocks).fill(-1);
    this.#next[END] = END;
    this.#previous[END] = END;
  }

  get length(): number {
    return this.#length;
  }

  /** Puts a block last: it is the most recently used one. */
  append(block: number): void {
    this.#insert(block, { previous: this.#previous[END] ?? END, next: END });
  }

  /** Puts a block first: it is taken before all others. */
  prepend(block: number): void {
    this.#insert(block, { previous: END, next: this.#next[END] ?? END });
  }

  remove(block: number): void {
    const next = this.#next[block] ?? -1;
    const previous = this.#previous[block] ?? -1;
    assert(block !== END && next >= 0 && previous >= 0, "block is not in the free queue", {
      block,
    });
    this.#next[previous] = next;
    this.#previous[next] = previous;
    this.#next[block] = -1;
    this.#previous[block] = -1;
    this.#length -= 1;
  }

  /** From the least to the most recently used; the queue must not change meanwhile. */
  *[Symbol.iterator](): IterableIterator<number> {
    for (let block = this.#next[END] ?? END; block !== END; block = this.#next[block] ?? END) {
      yield block;
    }
  }

  /** Takes the least recently used block. */
  shift(): number {
    const first = this.#next[END] ?? END;
    this.remove(first);
    return first;
  }

  #insert(block: number, between: { readonly previous: number; readonly next: number }): void {
    this.#next[between.previous] = block;
    this.#previous[block] = between.previous;
    this.#next[block] = between.next;
    this.#previous[between.next] = block;
    this.#length += 1;
  }
}
