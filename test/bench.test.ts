/** Every bench runs once, so that it cannot rot; nothing is measured here. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

it("runs, and writes its rows as JSON", { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-bench-"));
  try {
    const file = join(folder, "bench.json");
    const bench = new URL("../bench/run.ts", import.meta.url).pathname;
    execFileSync(process.execPath, [bench, "--quick", "--json", file]);
    const { machine, results } = JSON.parse(readFileSync(file, "utf8"));
    expect(machine).toMatchObject({ cores: expect.any(Number), node: process.version });
    expect(results).toContainEqual(
      expect.objectContaining({
        name: "match.keys.2048x64",
        unit: "us",
        p50: expect.any(Number),
        reference: "naive.match.keys.2048x64",
      }),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
