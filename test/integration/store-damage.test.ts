/** A disk that is full and a store that is damaged cost the restart's warmth, not the service. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { startLabEngine } from "../../src/lab/engine/engine.ts";
import { RouterProcess } from "../harness/router-process.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const SOURCE = new URL("../../src/", import.meta.url).pathname;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kvatlas-damage-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it("a write that finds the disk full fails, and the process and its rows live on", () => {
  const script = `
    const { LmdbStore } = await import("${SOURCE}indexer/lmdb-store.ts");
    const { MemoryIndex } = await import("${SOURCE}../test/harness/memory-index.ts");
    const { Residency } = await import("${SOURCE}indexer/residency.ts");
    const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1e6 });
    const store = new LmdbStore(process.argv[1]);
    const holder = { endpointId: "10.0.0.1:8000", rank: 0 };
    let failed = 0;
    for (let round = 0; round < 200; round += 1) {
      const words = BigUint64Array.from({ length: 500 }, (_, i) => BigInt(round * 500 + i));
      residency.stored(holder, "gpu", words, words);
      try { store.flush(residency); } catch { failed += 1; }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    process.stdout.write(JSON.stringify({ failed, dirty: residency.dirtyRows }));
    process.exit(0);
  `;
  // A limit on the size of files, 2 MiB, stands for a disk that is full.
  const command = 'ulimit -f 2048; exec "$0" --input-type=module -e "$1" "$2"';
  const args = ["-c", command, process.execPath, script, join(folder, "store")];
  const { failed, dirty } = JSON.parse(execFileSync("bash", args, { encoding: "utf8" }));
  expect(failed).toBeGreaterThan(10);
  expect(dirty).toBeGreaterThan(1000);
});

it("a store whose opening kills the process is moved aside after two tries", async () => {
  const engine = await startLabEngine({ timeScale: 0, gpuBlocks: 8000 }, { clock: nodeClock });
  const kvEvents = { address: engine.kvEventsAddress };
  const endpoints = [{ name: "pod-0", address: engine.address, kvEvents }];
  const router = await RouterProcess.start({ folder, endpoints });
  try {
    await waitUntil("the router listens", () => engine.subscriptions() > 0);
    for (let seed = 0; seed < 20; seed += 1) {
      const body = { model: "lab-8b", prompt: promptOf(seed, 4000), max_tokens: 1 };
      const url = `http://${engine.address}/v1/completions`;
      await fetch(url, { method: "POST", body: JSON.stringify(body) });
    }
    const stored = async (): Promise<boolean> =>
      (await router.metric("kvatlas_index_entries")) >= 5000 &&
      (await router.metric("kvatlas_store_dirty_rows")) === 0;
    await waitUntil("the blocks are stored", stored);
    await router.stop();

    truncateSync(join(folder, "store", "data.mdb"), 8192);
    let starts = 0;
    await waitUntil(
      "the router starts",
      async () => {
        starts += 1;
        return router.restart().then(
          () => true,
          () => false,
        );
      },
      30_000,
    );
    expect(starts).toBeLessThanOrEqual(3);
    if (starts === 1) return;
    expect(existsSync(join(folder, "store.damaged", "data.mdb"))).toBe(true);
    expect((await router.ready()).text).toContain("parts were damaged");
    expect(await router.metric("kvatlas_store_restores_total", "damaged")).toBe(1);
  } finally {
    await router.stop();
    await engine.stop();
  }
});
