/** Every bench runs once, so that it cannot rot; nothing is measured here. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

it("runs, and writes its rows as JSON", { timeout: 120_000 }, () => {
  const { machine, results } = bench("run.ts");
  expect(machine).toMatchObject({ cores: expect.any(Number), node: process.version });
  expect(results).toContainEqual(
    expect.objectContaining({
      name: "match.keys.2048x64",
      unit: "us",
      p50: expect.any(Number),
      reference: "naive.match.keys.2048x64",
    }),
  );
});

it.each([
  ["transport.cpu", "us"],
  ["decision.tokens.1k", "ms"],
])("asks a router process over gRPC for %s", { timeout: 60_000 }, (name, unit) => {
  const { results } = bench("edge.ts", "--only", name);
  expect(results).toEqual([expect.objectContaining({ name, unit, p50: expect.any(Number) })]);
  expect(results[0].p50).toBeGreaterThan(0);
});

function bench(file: string, ...args: readonly string[]) {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-bench-"));
  try {
    const json = join(folder, "bench.json");
    const path = new URL(`../bench/${file}`, import.meta.url).pathname;
    execFileSync(process.execPath, [path, "--quick", "--json", json, ...args]);
    return JSON.parse(readFileSync(json, "utf8"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
