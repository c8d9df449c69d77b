/** `npm run wasm [-- FOLDER]`: compiles wasm/*.{ts,wat} to FOLDER (wasm/ by default); same bytes each time. */
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";
import binaryen from "assemblyscript/binaryen";

/** What a module needs beside the options of all; others have no runtime, as they manage their memory. */
const OPTIONS: Readonly<Record<string, string>> = {
  // With the allocator alone: nothing in it is collected.
  "relay-core": "--runtime minimal --enable simd",
  // Each thread's instance lies over one memory, which the host makes.
  "hot-table":
    "--runtime stub --enable simd --enable threads --importMemory --sharedMemory --maximumMemory 65536",
};

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const folder = process.argv[2] ?? "wasm";

process.chdir(ROOT);
for (const source of globSync("wasm/*.ts")) {
  const name = basename(source, ".ts");
  const target = join(folder, `${name}.wasm`);
  // They import nothing but memory.
  const args = [source, "-o", target, "-O3", "--noAssert", "--use", "abort="];
  args.push(...(OPTIONS[name] ?? "--runtime stub").split(" "));
  const { error, stderr } = await asc.main(args);
  process.stderr.write(stderr.toString());
  if (error !== null) process.exit(1);
}
for (const source of globSync("wasm/*.wat")) {
  const module = binaryen.parseText(readFileSync(source, "utf8"));
  module.setFeatures(binaryen.Features.All);
  writeFileSync(join(folder, `${basename(source, ".wat")}.wasm`), module.emitBinary());
}
