import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { type Database, open, type RootDatabase } from "lmdb";
import { afterEach, describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { MemoryResidency } from "../../test/harness/memory-residency.ts";
import { flushTo, restoreFrom } from "../../test/harness/plain-store.ts";
import { apply, compare, operationArb } from "../../test/harness/residency-histories.ts";
import { RowNames } from "../../test/harness/row-names.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { LmdbStore } from "./lmdb-store.ts";
import { type HolderCursor, Residency } from "./residency.ts";
import type { RestoreOutcome } from "./restorer.ts";
import { PAGE_ROWS } from "./store-page.ts";
import { storeProblemOf } from "./store-problem.ts";

const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("[::1]:8000"), rank: 0 };
const podB1: Holder = { ...podB, rank: 1 };
const holders = [podA, podB, podB1];

const folders: string[] = [];
function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-lmdb-"));
  folders.push(folder);
  return folder;
}
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

const cursorAt = (seq: number, more: Partial<HolderCursor> = {}): HolderCursor => ({
  ...{
    state: "EXACT",
    reason: null,
    epoch: 1,
    seq,
    engineMs: 5,
    blockSizesTokens: [16, 256],
    model: "m",
  },
  ignoredGroups: [2],
  ...more,
});

interface Opened {
  readonly store: LmdbStore;
  readonly index: MemoryIndex;
  readonly residency: Residency;
  readonly outcome: RestoreOutcome;
}

/** The store's file without the store, to damage it. */
const openRaw = (path: string): RootDatabase<unknown, string> =>
  open({ path, encoding: "json", maxDbs: 4, noSubdir: false });

const rawBlocks = (root: RootDatabase<unknown, string>): Database<Buffer, Buffer> =>
  root.openDB({ ...{ name: "blocks", encoding: "binary", keyEncoding: "binary" } });

function openStore(folder: string, keySeed = 0, bytesMax?: number): Opened {
  const store = new LmdbStore(folder, keySeed);
  const index = new MemoryIndex();
  const residency = new Residency({ index, entriesMax: 10_000 });
  return { store, index, residency, outcome: restoreFrom(store, residency, bytesMax) };
}

const words = (values: readonly number[]): BigUint64Array => BigUint64Array.from(values, BigInt);
const storeBlocks = (residency: Residency, holder: Holder, handles: number[]): number =>
  residency.stored(holder, "gpu", words(handles), words(handles.map((handle) => handle + 100)));
const handlesOf = (residency: Residency, holder: Holder): bigint[] =>
  [...residency.records(holder)].map(([handle]) => handle).sort((a, b) => (a < b ? -1 : 1));

describe("restoring", () => {
  it("gives back index and cursors after any history with flushes and restarts at any points", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(operationArb, { maxLength: 25 }),
        fc.integer({ min: 1, max: 20_000 }),
        async (operations, bytesMax) => {
          const folder = newFolder();
          let opened = openStore(folder);
          const plain = new MemoryResidency();
          const names = new RowNames();
          const reopen = async (): Promise<void> => {
            const { logCursor } = opened.residency;
            flushTo(opened.store, opened.residency, bytesMax);
            await opened.store.close();
            opened = openStore(folder, 0, bytesMax);
            names.restore(opened.residency);
            compare(opened, plain);
            expect(opened.residency.logCursor).toEqual(logCursor);
            expect(opened.outcome).toMatchObject({
              ...{ holdersDamaged: 0, pagesDamaged: 0, rowsRefused: 0, isEmptied: false },
            });
            expect(opened.residency.isDirty).toBe(false);
          };
          for (const [seq, operation] of operations.entries()) {
            const { residency, store } = opened;
            residency.setLogCursor({ stream: operation.tier, seq });
            if (operation.kind !== "pause") apply(operation, { residency, plain, seq, names });
            else if (operation.tier === "gpu") flushTo(store, residency, bytesMax);
            else await reopen();
          }
          await reopen();
          await opened.store.close();
        },
      ),
      { numRuns: 40 },
    );
  });

  it("gives back rows that a relay has named far behind the first page", async () => {
    const folder = newFolder();
    const first = openStore(folder);
    const words = BigUint64Array.of(1n, 2n, 3n);
    const rows = Uint32Array.of(238, 1000, 500);
    first.residency.stored(podB, "gpu", words, words, { rows });
    first.residency.setCursor(podB, cursorAt(5));
    flushTo(first.store, first.residency);
    await first.store.close();
    const second = openStore(folder);
    expect(second.outcome).toMatchObject({ blocks: 3, holdersDamaged: 0, pagesDamaged: 0 });
    expect(second.residency.cursorOf(podB)).toEqual(cursorAt(5));
    const found: number[] = [];
    for (const held of second.residency.heldRows(podB)) found.push(...held.rows);
    expect(found).toEqual([238, 500, 1000]);
    await second.store.close();
  });

  it("forgets a holder's rows and cursor when it left, and does not mix it up when it returns", async () => {
    const folder = newFolder();
    const first = openStore(folder);
    for (const holder of holders) {
      storeBlocks(first.residency, holder, [1, 2]);
      first.residency.setCursor(holder, cursorAt(5));
    }
    flushTo(first.store, first.residency);
    first.residency.forget(podB);
    flushTo(first.store, first.residency);
    await first.store.close();

    const second = openStore(folder);
    expect(second.outcome).toMatchObject({ blocks: 4, holders: 2 });
    expect(second.residency.cursorOf(podB)).toBeNull();
    storeBlocks(second.residency, podB, [3]);
    second.residency.setCursor(podB, cursorAt(0));
    flushTo(second.store, second.residency);
    await second.store.close();

    const third = openStore(folder);
    expect(holders.map((holder) => handlesOf(third.residency, holder))).toEqual([
      [1n, 2n],
      [3n],
      [1n, 2n],
    ]);
    await third.store.close();
  });
});

describe("a flush", () => {
  it("that fails writes nothing, and its pages are written by the next", async () => {
    const folder = newFolder();
    const { store, residency } = openStore(folder);
    storeBlocks(residency, podA, [1]);
    residency.setCursor(podA, cursorAt(0));
    flushTo(store, residency);

    storeBlocks(residency, podA, [2, 3]);
    const poison = (): never => {
      throw new Error("no cursor today");
    };
    residency.setCursor(podA, Object.assign(cursorAt(1), { toJSON: poison }));
    expect(() => flushTo(store, residency)).toThrow("no cursor today");
    expect(residency.dirtyPages).toBe(1);
    await store.close();
    expect(() => flushTo(store, residency)).toThrow();
    expect(residency.dirtyPages).toBe(1);

    const again = openStore(folder);
    expect(handlesOf(again.residency, podA)).toEqual([1n]);
    expect(again.residency.cursorOf(podA)).toEqual(cursorAt(0));
    await again.store.close();

    const next = new LmdbStore(folder);
    residency.setCursor(podA, cursorAt(1));
    expect(flushTo(next, residency)).toBe(1);
    await next.close();
    const last = openStore(folder);
    expect(handlesOf(last.residency, podA)).toEqual([1n, 2n, 3n]);
    expect(last.residency.cursorOf(podA)).toEqual(cursorAt(1));
    await last.store.close();
  });

  it("finds out that another process has opened the store, and leaves it alone", async () => {
    const folder = newFolder();
    const first = openStore(folder);
    storeBlocks(first.residency, podA, [1]);
    flushTo(first.store, first.residency);
    const root = openRaw(folder);
    await root.put("owner", "another");
    await root.close();
    storeBlocks(first.residency, podA, [2]);
    let problem: unknown = null;
    try {
      flushTo(first.store, first.residency);
    } catch (error) {
      problem = storeProblemOf(error);
    }
    expect(problem).toBe("taken");
    await first.store.close();
    const next = openStore(folder);
    expect(handlesOf(next.residency, podA)).toEqual([1n]);
    await next.store.close();
  });

  it("drops the pages of what is gone", async () => {
    const folder = newFolder();
    const { store, residency } = openStore(folder);
    const many = Array.from({ length: 3 * PAGE_ROWS }, (_, handle) => handle);
    storeBlocks(residency, podA, many);
    storeBlocks(residency, podB, many);
    flushTo(store, residency);
    residency.cleared(podA);
    storeBlocks(residency, podA, [5]);
    residency.forget(podB);
    flushTo(store, residency);
    await store.close();
    const root = openRaw(folder);
    expect([...rawBlocks(root).getKeys()]).toHaveLength(1);
    await root.close();
  });
});
