/** Memory of 64 KiB as a WebAssembly module of its own has it, made known for copies. */
import type { OwnMemory } from "../../src/core/file-wasm.ts";
import { copiedFrom } from "../../src/core/memory-copy.ts";

/** Node's types leave it to the browser's. */
declare const WebAssembly: { readonly Memory: new (size: object) => OwnMemory };

export function moduleMemory(): OwnMemory {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  copiedFrom(memory);
  return memory;
}
