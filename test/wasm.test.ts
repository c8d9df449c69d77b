/** The checked-in WebAssembly is what the compiler makes of its sources. */
import { execFileSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

function bytesOf(folder: string): Map<string, string> {
  const files = globSync("*.wasm", { cwd: folder }).sort();
  return new Map(
    files.map((file) => [basename(file), readFileSync(join(folder, file)).toString("hex")]),
  );
}

it("wasm/*.wasm is current; run `npm run wasm` after a change of a source", () => {
  const made = mkdtempSync(join(tmpdir(), "kvatlas-wasm-"));
  try {
    execFileSync(process.execPath, [join(ROOT, "scripts/build-wasm.ts"), made]);
    expect(bytesOf(made).size).toBe(globSync("wasm/*.{ts,wat}", { cwd: ROOT }).length);
    expect(bytesOf(made)).toEqual(bytesOf(join(ROOT, "wasm")));
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}, 120_000);
