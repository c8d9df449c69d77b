/**
 * Copies keys into shared memory. `set` of a typed array writes it word by word, 0.6 ns a key; a copy
 * from memory to memory by WebAssembly takes 0.2, so keys that do not lie in a module's memory are first
 * copied to one, 0.1 more.
 */
import { instantiateWasm, type OwnMemory, ownMemory, type SharedMemory } from "./file-wasm.ts";

/** Exports of wasm/memory-copy.wat. */
interface CopyWasm {
  copy(to: number, from: number, bytes: number): void;
}

/** Up to here `set` is not slower. */
const KEYS_SET = 64;

const ownMemories = new WeakMap<ArrayBufferLike, OwnMemory>();

/** Makes a memory known that keys will be copied from; it must not grow. */
export function copiedFrom(memory: OwnMemory): void {
  ownMemories.set(memory.buffer, memory);
}

export class MemoryCopy {
  readonly #to: SharedMemory;
  readonly #target: BigUint64Array;
  /** The known memory that keys were copied from last, and how that is done. */
  #source: ArrayBufferLike | null = null;
  #fromSource: CopyWasm | null = null;
  /** Where other keys lie in between; made when it is needed. */
  #between: { readonly keys: BigUint64Array; readonly wasm: CopyWasm } | null = null;

  /** `target`: where keys go, in `to`. */
  constructor(to: SharedMemory, target: BigUint64Array) {
    this.#to = to;
    this.#target = target;
  }

  /** At most as many as the target has room for; returns how many. */
  copy(keys: BigUint64Array): number {
    const length = Math.min(keys.length, this.#target.length);
    const at = this.#target.byteOffset;
    const wasm = this.#wasmFrom(keys.buffer);
    if (wasm !== null) {
      wasm.copy(at, keys.byteOffset, 8 * length);
      return length;
    }
    const first = length === keys.length ? keys : keys.subarray(0, length);
    if (length <= KEYS_SET) this.#target.set(first);
    else {
      this.#between ??= this.#makeBetween();
      this.#between.keys.set(first);
      this.#between.wasm.copy(at, 0, 8 * length);
    }
    return length;
  }

  #wasmFrom(source: ArrayBufferLike): CopyWasm | null {
    if (source === this.#source) return this.#fromSource;
    const from = ownMemories.get(source);
    if (from === undefined) return null;
    this.#source = source;
    this.#fromSource = this.#instanceFrom(from);
    return this.#fromSource;
  }

  #makeBetween(): { readonly keys: BigUint64Array; readonly wasm: CopyWasm } {
    const memory = ownMemory(this.#target.byteLength);
    return { keys: new BigUint64Array(memory.buffer), wasm: this.#instanceFrom(memory) };
  }

  #instanceFrom(from: OwnMemory): CopyWasm {
    return instantiateWasm<CopyWasm>("memory-copy", { from, to: this.#to });
  }
}
