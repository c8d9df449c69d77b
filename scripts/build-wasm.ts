/** `npm run wasm [-- FOLDER]`: compiles wasm/*.ts to FOLDER (wasm/ by default); same bytes each time. */
import { globSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const folder = process.argv[2] ?? "wasm";

process.chdir(ROOT);
for (const source of globSync("wasm/*.ts")) {
  const target = join(folder, source.replace(/^wasm./, "").replace(/\.ts$/, ".wasm"));
  // No runtime: the modules manage their memory themselves, and import nothing.
  const args = [source, "-o", target, "-O3", "--runtime", "stub", "--noAssert", "--use", "abort="];
  const { error, stderr } = await asc.main(args);
  process.stderr.write(stderr.toString());
  if (error !== null) process.exit(1);
}
