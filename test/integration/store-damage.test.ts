/** A disk that is full and a store that is damaged cost the restart's warmth, not the service. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, truncateSync } from "node:fs";
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

it("a write that finds the disk full fails, and all is written when there is room again", () => {
  const script = `
    const { LmdbStoreThread } = await import("${SOURCE}indexer/lmdb-store-thread.ts");
    const { MemoryIndex } = await import("${SOURCE}../test/harness/memory-index.ts");
    const { Residency } = await import("${SOURCE}indexer/residency.ts");
    const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1e6 });
    const store = new LmdbStoreThread();
    await store.open(process.argv[1], 0);
    const holder = { endpointId: "10.0.0.1:8000", rank: 0 };
    const problems = {};
    const round = async (number) => {
      const words = BigUint64Array.from({ length: 5000 }, (_, i) => BigInt(number * 5000 + i));
      residency.stored(holder, "gpu", words, words);
      const flush = residency.takeFlush(1e9);
      try {
        await store.write(flush);
      } catch (error) {
        residency.putBack(flush);
        problems[error.problem] = (problems[error.problem] ?? 0) + 1;
      }
    };
    for (let number = 0; number < 40; number += 1) await round(number);
    const dirty = residency.dirtyPages;
    // The disk has room again.
    const { execFileSync } = await import("node:child_process");
    execFileSync("prlimit", ["--pid", String(process.pid), "--fsize=unlimited"]);
    await round(40);
    process.stdout.write(JSON.stringify({ problems, dirty, left: residency.dirtyPages }));
    await store.close();
  `;
  // A limit on the size of files, 2 MiB, stands for a disk that is full.
  const command = 'ulimit -S -f 2048; exec "$0" --input-type=module -e "$1" "$2"';
  const args = ["-c", command, process.execPath, script, join(folder, "store")];
  const { problems, dirty, left } = JSON.parse(execFileSync("bash", args, { encoding: "utf8" }));
  expect(problems).toEqual({ "disk-full": expect.any(Number) });
  expect(problems["disk-full"]).toBeGreaterThan(10);
  expect(dirty).toBeGreaterThan(200);
  expect(left).toBe(0);
});

it("a store whose file was cut short costs the holders whose pages are lost, not the start", async () => {
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
      (await router.metric("kvatlas_store_dirty_pages")) === 0;
    await waitUntil("the blocks are stored", stored);
    await router.stop();

    const file = join(folder, "store", "data.mdb");
    truncateSync(file, Math.floor(statSync(file).size / 2));
    await router.restart();
    await waitUntil("the index is restored", async () =>
      (await router.ready()).text.includes("restored"),
    );
    expect((await router.ready()).text).toContain("parts were damaged");
    expect(await router.metric("kvatlas_store_restores_total", "damaged")).toBe(1);
  } finally {
    await router.stop();
    await engine.stop();
  }
});
