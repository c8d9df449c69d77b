/** A disk that is full and a store that is damaged cost the restart's warmth, not the service. */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, statSync, truncateSync } from "node:fs";
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

it("a write for which the address space has no room fails, where LMDB would end the process", () => {
  const script = `
    const { execFileSync } = await import("node:child_process");
    const { readFileSync } = await import("node:fs");
    const { LmdbStore } = await import("${SOURCE}indexer/lmdb-store.ts");
    const { storeProblemOf } = await import("${SOURCE}indexer/store-problem.ts");
    const limit = (bytes) =>
      execFileSync("prlimit", ["--pid", String(process.pid), "--as=" + bytes + ":unlimited"]);
    const store = new LmdbStore(process.argv[1]);
    const holder = { endpointId: "10.0.0.1:8000", rank: 0 };
    const PAGES = 10000;
    const bytes = new Uint8Array(4000 * PAGES);
    const ends = Array.from({ length: PAGES }, (_, at) => 4000 * (at + 1));
    let pages = 0;
    const write = () => {
      const changed = Array.from({ length: PAGES }, (_, at) => pages + at);
      const part = { holder, cursor: null, blocks: 1, pages: pages + PAGES, changed, ends, start: 0, ambiguous: null };
      try {
        store.write({ forgotten: [], holders: [part], bytes, logCursor: null });
        pages += PAGES;
        return "written";
      } catch (error) {
        return storeProblemOf(error);
      }
    };
    const [, kib] = /VmSize:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"));
    limit(1024 * Number(kib) + 300e6);
    const limited = Array.from({ length: 5 }, write);
    limit("unlimited");
    const said = { limited, freed: write() };
    await store.close();
    process.stdout.write(JSON.stringify(said));
  `;
  const args = ["--input-type=module", "-e", script, join(folder, "store")];
  const said = JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
  expect(said.limited[0]).toBe("written");
  expect(said.limited.at(-1)).toBe("map-full");
  expect(said.freed).toBe("written");
});

it.each([
  ["a folder that may not be written", "mkdirSync(path); chmodSync(path, 0o555);"],
  [
    "a store whose files may not be written",
    `const { LmdbStore } = await import("${SOURCE}indexer/lmdb-store.ts");
     await new LmdbStore(path).close();
     for (const file of readdirSync(path)) chmodSync(path + "/" + file, 0o444);
     chmodSync(path, 0o555);`,
  ],
])("%s is said, and the index serves from memory", (_, prepare) => {
  const script = `
    const { chmodSync, mkdirSync, readdirSync } = await import("node:fs");
    const { IndexCore } = await import("${SOURCE}app/index-core.ts");
    const { indexerConfigSchema } = await import("${SOURCE}indexer/config.ts");
    const { EvictionBoard } = await import("${SOURCE}indexer/eviction-board.ts");
    const { silentLog } = await import("${SOURCE}core/log.ts");
    const { nodeClock } = await import("${SOURCE}core/node-clock.ts");
    const { recordingMeter } = await import("${SOURCE}../test/harness/recording-meter.ts");
    const path = process.argv[1];
    ${prepare}
    // The superuser may write anywhere.
    if (process.getuid() === 0) process.setuid(65534);
    const meter = recordingMeter();
    const ports = { clock: nodeClock, log: silentLog, meter, evictions: new EvictionBoard() };
    const core = new IndexCore(indexerConfigSchema.parse({ path, flushMs: 10 }), ports);
    await core.restored;
    const words = BigUint64Array.of(1n, 2n);
    core.residency.stored({ endpointId: "10.0.0.1:8000", rank: 0 }, "gpu", words, words);
    const [match] = core.index.match(words);
    const degraded = meter.value("kvatlas_degraded", { component: "store" });
    const problem = meter.value("kvatlas_store_problem", { problem: "unwritable" });
    const said = { blocks: match.blocks, detail: core.storeDetail, degraded, problem };
    await core.stop();
    process.stdout.write(JSON.stringify(said));
  `;
  chmodSync(folder, 0o755);
  const args = ["--input-type=module", "-e", script, join(folder, "store")];
  const said = JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
  expect(said).toEqual({
    ...{ blocks: 2, degraded: 1, problem: 1 },
    detail: expect.stringContaining("not usable (unwritable)"),
  });
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
    // What is lost may be pages of holders, or of LMDB's own trees.
    expect((await router.ready()).text).toMatch(/parts were damaged|former store \(damaged\)/);
    expect(await router.metric("kvatlas_store_restores_total", "damaged")).toBe(1);
  } finally {
    await router.stop();
    await engine.stop();
  }
});
