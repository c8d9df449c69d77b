import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { LmdbStoreThread } from "./lmdb-store-thread.ts";
import { Residency } from "./residency.ts";
import { Restorer } from "./restorer.ts";
import { PAGE_ROWS } from "./store-page.ts";

const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const BLOCKS = 5 * PAGE_ROWS + 1;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kvatlas-thread-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function filled(): Residency {
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1e6 });
  const words = BigUint64Array.from({ length: BLOCKS }, (_, block) => BigInt(block));
  residency.stored(podA, "gpu", words, words);
  return residency;
}

it("gives back over threads what was written, in portions", async () => {
  const path = join(folder, "store");
  const first = new LmdbStoreThread();
  const opened = await first.open(path, 0);
  expect(opened).toMatchObject({ aside: null, contents: { holders: [], isEmptied: false } });
  expect(await first.read(1000)).toBeNull();
  const residency = filled();
  await first.write(residency.takeFlush(1e9));
  await first.close();

  const second = new LmdbStoreThread();
  const { contents } = await second.open(path, 0);
  const restored = new Residency({ index: new MemoryIndex(), entriesMax: 1e6 });
  const restorer = new Restorer(contents, restored);
  let portions = 0;
  for (;;) {
    const portion = await second.read(5000);
    if (portion === null) break;
    portions += 1;
    restorer.take(portion);
  }
  expect(portions).toBe(3);
  expect(restorer.outcome).toMatchObject({ blocks: BLOCKS, holders: 1, holdersDamaged: 0 });
  await second.close();
});

it("leaves a store to the one that opened it last", async () => {
  const path = join(folder, "store");
  const first = new LmdbStoreThread();
  await first.open(path, 0);
  const second = new LmdbStoreThread();
  await second.open(path, 0);
  const residency = filled();
  const flush = residency.takeFlush(1e9);
  await expect(first.write(flush)).rejects.toMatchObject({ problem: "taken" });
  residency.putBack(flush);
  await second.write(residency.takeFlush(1e9));
  await first.close();
  await second.close();
});

it("gives a store back that it has not written to", async () => {
  const path = join(folder, "store");
  const first = new LmdbStoreThread();
  await first.open(path, 0);
  const failed = new LmdbStoreThread();
  await failed.open(path, 0);
  await failed.close();
  await first.write(filled().takeFlush(1e9));
  await first.close();
});

it("begins an empty store in place of one that is found damaged", async () => {
  const path = join(folder, "store");
  const store = new LmdbStoreThread();
  await store.open(path, 0);
  const residency = filled();
  await store.write(residency.takeFlush(1e9));
  await store.renew();
  residency.writeAll();
  await store.write(residency.takeFlush(1e9));
  await store.close();
  const next = new LmdbStoreThread();
  const { contents, aside } = await next.open(path, 0);
  expect([contents.holders[0]?.blocks, aside]).toEqual([BLOCKS, null]);
  await next.close();
});

it("says why it cannot be opened, and that it is gone", async () => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  const store = new LmdbStoreThread();
  await expect(store.open(join(file, "store"), 0)).rejects.toMatchObject({ problem: "unwritable" });
  await store.close();
  await expect(store.read(1)).rejects.toMatchObject({ problem: "failed" });
});
