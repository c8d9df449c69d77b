/**
 * A run of stores as one keyed event, whose lists lie in a slab one behind the other. The index reads them
 * there; arrays are made for whoever else asks for them.
 */
import type { Slab } from "../core/slab.ts";
import type { BlockSpan } from "../indexer/block-span.ts";
import type { Tier } from "../tiers/tier.ts";
import type { KeyedStored } from "./keyed-batch.ts";

/** Words of a block: handle, key, the key before it, row. */
export const RUN_BLOCK_WORDS = 7;

export class KeyedRun implements KeyedStored {
  readonly type = "stored";
  readonly tier: Tier = "gpu";
  readonly span: BlockSpan;
  readonly blockSizeTokens: number;
  readonly #words: Uint32Array;

  constructor(span: BlockSpan, words: Uint32Array, blockSizeTokens: number) {
    this.span = span;
    this.blockSizeTokens = blockSizeTokens;
    this.#words = words;
  }

  /** The lists of so many blocks, which lie in what a slab has taken last, from byte `place` on. */
  static inSlab(slab: Slab, place: number, length: number, blockSizeTokens: number): KeyedRun {
    const { longs, words } = slab;
    const handlesAt = place / 8;
    const span = {
      length,
      handles: longs,
      handlesAt,
      keys: longs,
      keysAt: handlesAt + length,
      parents: longs,
      parentsAt: handlesAt + 2 * length,
      rows: words,
      rowsAt: place / 4 + 6 * length,
    };
    return new KeyedRun(span, words, blockSizeTokens);
  }

  get handles(): BigUint64Array {
    return this.#longsFrom(this.span.handlesAt);
  }

  get keys(): BigUint64Array {
    return this.#longsFrom(this.span.keysAt);
  }

  get parents(): BigUint64Array {
    return this.#longsFrom(this.span.parentsAt);
  }

  get rows(): Uint32Array {
    const { rowsAt, length } = this.span;
    return this.#words.subarray(rowsAt, rowsAt + length);
  }

  /** The first `length` blocks. */
  first(length: number): KeyedRun {
    return new KeyedRun({ ...this.span, length }, this.#words, this.blockSizeTokens);
  }

  #longsFrom(at: number): BigUint64Array {
    return this.span.handles.subarray(at, at + this.span.length);
  }
}
