import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { runCrashes } from "../../test/harness/crash-run.ts";
import { seededRandom } from "../core/random.ts";

it("kill -9 while flushing never leaves a cursor that is ahead of its data", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-crash-"));
  try {
    const run = await runCrashes({
      folder: join(folder, "store"),
      kills: 8,
      random: seededRandom(1),
    });
    expect(run.lives).toBeGreaterThan(2);
    expect(run.seq).toBeGreaterThan(100);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 60_000);
