/**
 * Copies keys into shared memory. `set` of a typed array writes it word by word; where the keys lie in
 * a module's own memory that was made known here, a copy from memory to memory takes a third.
 */
import { instantiateWasm, type OwnMemory, type SharedMemory } from "./file-wasm.ts";

/** Exports of wasm/memory-copy.wat. */
interface CopyWasm {
  copy(to: number, from: number, bytes: number): void;
}

const ownMemories = new WeakMap<ArrayBufferLike, OwnMemory>();

/** Makes a memory known that keys will be copied from; it must not grow. */
export function copiedFrom(memory: OwnMemory): void {
  ownMemories.set(memory.buffer, memory);
}

export class MemoryCopy {
  readonly #to: SharedMemory;
  readonly #target: BigUint64Array;
  /** Where the last keys lay that were copied from memory to memory, and how that is done. */
  #source: ArrayBufferLike | null = null;
  #wasm: CopyWasm | null = null;

  /** `target`: where keys go, in `to`. */
  constructor(to: SharedMemory, target: BigUint64Array) {
    this.#to = to;
    this.#target = target;
  }

  /** At most as many as the target has room for; returns how many. */
  copy(keys: BigUint64Array): number {
    const length = Math.min(keys.length, this.#target.length);
    const wasm = this.#from(keys.buffer);
    if (wasm !== null) wasm.copy(this.#target.byteOffset, keys.byteOffset, 8 * length);
    else this.#target.set(length === keys.length ? keys : keys.subarray(0, length));
    return length;
  }

  #from(source: ArrayBufferLike): CopyWasm | null {
    if (source === this.#source) return this.#wasm;
    const from = ownMemories.get(source);
    if (from === undefined) return null;
    this.#source = source;
    this.#wasm = instantiateWasm<CopyWasm>("memory-copy", { from, to: this.#to });
    return this.#wasm;
  }
}
