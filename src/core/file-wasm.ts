/** Our WebAssembly modules: compiled from wasm/NAME.ts or .wat to wasm/NAME.wasm by `npm run wasm`. */
import { readFileSync } from "node:fs";

/** Memory of a module that threads share; worker_threads clone it. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

/** Memory of an instance's own. */
export interface OwnMemory {
  readonly buffer: ArrayBuffer;
}

/** The part of the runtime's interface that is used; Node's types leave it to the browser's. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
  readonly Memory: new (size: object) => SharedMemory & OwnMemory;
};

const PAGE_BYTES = 65_536;

/** Compiled modules, by name: they have no state. */
const modules = new Map<string, object>();

/**
 * A fresh instance of wasm/NAME.wasm; throws where the file or the runtime does not allow it.
 * `Exports` says what the module's source exports; `memories` are those that it imports, by name.
 */
export function instantiateWasm<Exports>(
  name: string,
  memories: Readonly<Record<string, SharedMemory | OwnMemory>> = {},
): Exports {
  let module = modules.get(name);
  if (module === undefined) {
    // src/core and dist/core lie equally deep, so this finds the file in a checkout and in a package.
    module = new WebAssembly.Module(
      readFileSync(new URL(`../../wasm/${name}.wasm`, import.meta.url)),
    );
    modules.set(name, module);
  }
  return new WebAssembly.Instance(module, { env: memories }).exports as Exports;
}

/** Zeros; the operating system gives a page of them when it is first touched. */
export function sharedMemory(bytes: number): SharedMemory {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** The same for one thread. */
export function ownMemory(bytes: number): OwnMemory {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages });
}
