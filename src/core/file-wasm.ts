/** Our WebAssembly modules: compiled from wasm/NAME.ts to wasm/NAME.wasm by `npm run wasm`. */
import { readFileSync } from "node:fs";

/** The part of the runtime's interface that is used; Node's types leave it to the browser's. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/**
 * A fresh instance of wasm/NAME.wasm; throws where the file or the runtime does not allow it.
 * `Exports` says what the module's source exports. Cost: under a millisecond.
 */
export function instantiateWasm<Exports>(name: string): Exports {
  // src/core and dist/core lie equally deep, so this finds the file in a checkout and in a package.
  const bytes = readFileSync(new URL(`../../wasm/${name}.wasm`, import.meta.url));
  return new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports as Exports;
}
