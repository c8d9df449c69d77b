import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { flushTo, restoreFrom } from "../../test/harness/plain-store.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { type GuardedStore, OPENINGS_MAX, openGuarded } from "./file-store-guard.ts";
import { LmdbStore } from "./lmdb-store.ts";
import { Residency } from "./residency.ts";
import { PAGE_ROWS } from "./store-page.ts";

const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };
const BLOCKS = 20 * PAGE_ROWS;

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kvatlas-guard-"));
  path = join(folder, "store");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const guarded = (): GuardedStore<LmdbStore> => openGuarded(path, () => new LmdbStore(path));
const newResidency = (): Residency => new Residency({ index: new MemoryIndex(), entriesMax: 1e6 });

/** Twenty pages of podA, then one of podB. */
async function fill(): Promise<void> {
  const { store, end } = guarded();
  const residency = newResidency();
  const words = BigUint64Array.from({ length: BLOCKS }, (_, block) => BigInt(block));
  for (const [holder, blocks] of [
    [podA, words],
    [podB, words.subarray(0, 5)],
  ] as const) {
    residency.stored(holder, "gpu", blocks, blocks);
    const cursor = { state: "EXACT", reason: null, epoch: 1, seq: 1, engineMs: 1 } as const;
    residency.setCursor(holder, {
      ...cursor,
      blockSizesTokens: [16],
      model: "m",
      ignoredGroups: [],
    });
    flushTo(store, residency);
  }
  end();
  await store.close();
}

it("moves a store aside whose openings did not come to their end, and begins a fresh one", async () => {
  await fill();
  for (let opening = 0; opening < OPENINGS_MAX; opening += 1) {
    const { store, aside } = guarded();
    expect(aside).toBeNull();
    // Killed before all is read: `end` is not called.
    await store.close();
  }
  const { store, aside, end } = guarded();
  expect(aside).toEqual({ path: `${path}.damaged`, reason: "killed" });
  expect(store.contents.holders).toEqual([]);
  expect(existsSync(join(`${path}.damaged`, "data.mdb"))).toBe(true);
  end();
  await store.close();
  const next = guarded();
  expect(next.aside).toBeNull();
  await next.store.close();
});

it("reads what is left of a file that was cut short, wherever that was", async () => {
  await fill();
  const whole = readFileSync(join(path, "data.mdb"));
  const pages = whole.length / 4096;
  for (let kept = 2; kept < pages; kept += 1) {
    writeFileSync(join(path, "data.mdb"), whole);
    truncateSync(join(path, "data.mdb"), kept * 4096);
    const { store, aside, end } = guarded();
    const residency = newResidency();
    const outcome = restoreFrom(store, residency);
    end();
    // Whatever is EXACT is whole.
    for (const [holder, blocks] of [
      [podA, BLOCKS],
      [podB, 5],
    ] as const) {
      const isExact = residency.cursorOf(holder)?.state === "EXACT";
      if (isExact) expect(residency.blocksOf(holder)).toBe(blocks);
    }
    const isSeen = aside !== null || outcome.holdersDamaged + outcome.rowsRefused > 0;
    const isGone = outcome.holders === 2 && outcome.blocks === BLOCKS + 5;
    expect(isSeen || isGone).toBe(true);
    await store.close();
    rmSync(`${path}.damaged`, { recursive: true, force: true });
  }
});

it.each([
  ["no LMDB file", Buffer.alloc(20_000, "kvatlas")],
  ["zeros", Buffer.alloc(20_000)],
  ["shorter than its headers", Buffer.alloc(100, 1)],
])("moves a file aside that is %s", async (_, bytes) => {
  await fill();
  writeFileSync(join(path, "data.mdb"), bytes);
  const { store, aside, end } = guarded();
  expect(aside?.reason).toBe("foreign");
  expect(readFileSync(join(`${path}.damaged`, "data.mdb"))).toEqual(bytes);
  const residency = newResidency();
  residency.stored(podA, "gpu", BigUint64Array.of(1n), BigUint64Array.of(1n));
  flushTo(store, residency);
  end();
  await store.close();
});

it("throws what is not the file's fault", () => {
  writeFileSync(path, "");
  expect(guarded).toThrow("EEXIST");
});
