/** Memory of 64 KiB as a WebAssembly module of its own has it, made known for copies. */
import { type OwnMemory, ownMemory } from "../../src/core/file-wasm.ts";
import { copiedFrom } from "../../src/core/memory-copy.ts";

export function moduleMemory(): OwnMemory {
  const memory = ownMemory(65_536);
  copiedFrom(memory);
  return memory;
}
