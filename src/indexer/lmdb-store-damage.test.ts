import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { type Database, open, type RootDatabase } from "lmdb";
import { afterEach, describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { flushTo, restoreFrom } from "../../test/harness/plain-store.ts";
import { endpointId, type Holder, holderName } from "../core/ids.ts";
import { LmdbStore } from "./lmdb-store.ts";
import { type HolderCursor, Residency } from "./residency.ts";
import type { RestoreOutcome } from "./restorer.ts";
import { PAGE_ROWS } from "./store-page.ts";

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
    blockSizesTokens: [16],
    model: "m",
  },
  ignoredGroups: [],
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

describe("a store that is not as it should be", () => {
  /** Three pages of podA, and one of podB. */
  async function filledFolder(): Promise<string> {
    const folder = newFolder();
    const { store, residency } = openStore(folder);
    storeBlocks(residency, podA, HANDLES_A);
    storeBlocks(residency, podB, [3]);
    residency.setCursor(podA, cursorAt(7));
    residency.setCursor(podB, cursorAt(8));
    residency.setLogCursor({ stream: "s", seq: 9 });
    flushTo(store, residency);
    await store.close();
    return folder;
  }
  const HANDLES_A = Array.from({ length: 2 * PAGE_ROWS + 9 }, (_, handle) => handle);
  const BLOCKS = HANDLES_A.length + 1;

  /** Changes the pages of podA, which was written first. */
  async function damage(
    folder: string,
    change: (blocks: Database<Buffer, Buffer>, keys: readonly Buffer[]) => Promise<unknown>,
  ): Promise<void> {
    const root = openRaw(folder);
    const blocks = rawBlocks(root);
    const keys = [...blocks.getKeys()].map((key) => Buffer.from(key));
    await change(blocks, keys.slice(0, 3));
    await root.close();
  }

  async function expectOnePageLost(folder: string): Promise<void> {
    const { store, residency, outcome } = openStore(folder);
    const lost = PAGE_ROWS;
    expect(outcome).toMatchObject({
      ...{ blocks: BLOCKS - lost, holders: 2, holdersDamaged: 1, pagesDamaged: 1, rowsRefused: 0 },
    });
    expect(residency.cursorOf(podA)).toEqual(
      cursorAt(7, { state: "DEGRADED", reason: "store-damaged" }),
    );
    expect(residency.cursorOf(podB)).toEqual(cursorAt(8));
    expect(handlesOf(residency, podB)).toEqual([3n]);
    // What the damaged page had is told again: it is mended on disk.
    storeBlocks(residency, podA, HANDLES_A.slice(PAGE_ROWS, 2 * PAGE_ROWS));
    flushTo(store, residency);
    await store.close();
    const again = openStore(folder);
    expect(again.outcome).toMatchObject({ blocks: BLOCKS, holdersDamaged: 0, pagesDamaged: 0 });
    expect(handlesOf(again.residency, podA)).toEqual(HANDLES_A.map(BigInt));
    expect(again.residency.cursorOf(podA)?.reason).toBe("store-damaged");
    await again.store.close();
  }

  it("of another layout is emptied, and that is said", async () => {
    const folder = await filledFolder();
    const root = openRaw(folder);
    await root.put("layout", 999);
    await root.close();
    const { store, residency, outcome } = openStore(folder);
    expect(outcome).toEqual({
      ...{ blocks: 0, holders: 0, holdersDamaged: 0, pagesDamaged: 0, rowsRefused: 0 },
      isEmptied: true,
    });
    expect([residency.holders(), residency.logCursor]).toEqual([[], null]);
    await store.close();
    const again = openStore(folder);
    expect(again.outcome).toMatchObject({ blocks: 0, holders: 0, isEmptied: false });
    await again.store.close();
  });

  it("of another key seed is emptied, and that is said", async () => {
    const folder = await filledFolder();
    const other = openStore(folder, 5);
    expect(other.outcome).toMatchObject({ blocks: 0, isEmptied: true });
    await other.store.close();
    const again = openStore(folder, 5);
    expect(again.outcome).toMatchObject({ blocks: 0, isEmptied: false });
    await again.store.close();
  });

  it("with any bit of a page flipped loses that page, its holder is DEGRADED, others are not", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 8 * 4071 - 1 }), async (bit) => {
        const folder = await filledFolder();
        await damage(folder, (blocks, [, second]) => {
          const page = Buffer.from(blocks.get(second ?? Buffer.of(0)) ?? Buffer.of(0));
          page[bit >> 3] = (page[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          return blocks.put(second ?? Buffer.of(0), page);
        });
        await expectOnePageLost(folder);
      }),
      { numRuns: 12, examples: [[0], [40], [50]] },
    );
  });

  it.each<[string, (page: Buffer) => Buffer]>([
    ["of no length", (): Buffer => Buffer.alloc(0)],
    ["cut short", (page): Buffer => page.subarray(0, 100)],
    ["too long", (page): Buffer => Buffer.concat([page, Buffer.alloc(20_000)])],
  ])("with a page %s loses that page", async (_, changed) => {
    const folder = await filledFolder();
    await damage(folder, (blocks, [, second = Buffer.of(0)]) =>
      blocks.put(second, changed(blocks.get(second) ?? Buffer.of(0))),
    );
    await expectOnePageLost(folder);
  });

  it("with a page missing, or in the place of another, loses that page", async () => {
    const missing = await filledFolder();
    await damage(missing, (blocks, [, second = Buffer.of(0)]) => blocks.remove(second));
    await expectOnePageLost(missing);
    const elsewhere = await filledFolder();
    await damage(elsewhere, (blocks, [first = Buffer.of(0), second = Buffer.of(0)]) =>
      blocks.put(second, blocks.get(first) ?? Buffer.of(0)),
    );
    await expectOnePageLost(elsewhere);
  });

  it("with an older page that was sound in its time says that blocks are missing", async () => {
    const folder = newFolder();
    const { store, residency } = openStore(folder);
    storeBlocks(residency, podA, [1]);
    residency.setCursor(podA, cursorAt(0));
    flushTo(store, residency);
    const older: Buffer[] = [];
    await store.close();
    await damage(folder, (blocks, [key = Buffer.of(0)]) => {
      older.push(Buffer.from(blocks.get(key) ?? Buffer.of(0)));
      return Promise.resolve();
    });
    const next = openStore(folder);
    storeBlocks(next.residency, podA, [2]);
    flushTo(next.store, next.residency);
    await next.store.close();
    await damage(folder, (blocks, [key = Buffer.of(0)]) =>
      blocks.put(key, older[0] ?? Buffer.of(0)),
    );
    const again = openStore(folder);
    expect(again.outcome).toMatchObject({ holdersDamaged: 1, pagesDamaged: 0 });
    expect(again.residency.cursorOf(podA)?.reason).toBe("store-damaged");
    await again.store.close();
  });

  it("loses pages that belong to nobody", async () => {
    const folder = await filledFolder();
    const stray = Buffer.of(0, 0, 0, 77, 0, 0, 0, 0);
    await damage(folder, async (blocks) => {
      await blocks.put(stray, Buffer.alloc(16, 1));
      await blocks.put(Buffer.of(0, 0), Buffer.alloc(16, 1));
      await blocks.put(Buffer.from([0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(16, 1));
    });
    const { store, outcome } = openStore(folder);
    expect(outcome).toMatchObject({ blocks: BLOCKS, holdersDamaged: 0 });
    await store.close();
    const root = openRaw(folder);
    expect([...rawBlocks(root).getKeys()]).toHaveLength(4);
    await root.close();
  });

  it.each([
    ["has no checksum", '{"slot":1}'],
    ["is no JSON", "{"],
    ["has one digit changed", null],
  ])("leaves out a holder whose row %s, and never gives its blocks to another", async (_, text) => {
    const folder = await filledFolder();
    const root = openRaw(folder);
    const rows = root.openDB<string, string>({ name: "holders", encoding: "string" });
    const changed = rows.get(holderName(podB))?.replace('"seq":8', '"seq":7') ?? "";
    await rows.put(holderName(podB), text ?? changed);
    await root.close();

    const first = openStore(folder);
    expect(first.outcome).toMatchObject({ blocks: HANDLES_A.length, holders: 1, rowsRefused: 1 });
    expect(first.residency.cursorOf(podB)).toBeNull();
    // It comes back, as does another one: both start without blocks.
    for (const holder of [podB, podB1]) {
      storeBlocks(first.residency, holder, [8]);
      first.residency.setCursor(holder, cursorAt(0));
    }
    flushTo(first.store, first.residency);
    await first.store.close();
    const second = openStore(folder);
    expect(holders.map((holder) => handlesOf(second.residency, holder))).toEqual([
      HANDLES_A.map(BigInt),
      [8n],
      [8n],
    ]);
    await second.store.close();
  });

  it("counts a log cursor that cannot be read, and reads the log from its start", async () => {
    const folder = await filledFolder();
    const root = openRaw(folder);
    await root.put("logCursor", { stream: 5 });
    await root.close();
    const { store, residency, outcome } = openStore(folder);
    expect(outcome).toMatchObject({ blocks: BLOCKS, rowsRefused: 1 });
    expect(residency.logCursor).toBeNull();
    await store.close();
  });

  it("at a path that is a file is not opened", () => {
    const file = join(newFolder(), "file");
    writeFileSync(file, "");
    expect(() => new LmdbStore(join(file, "store"))).toThrow("ENOTDIR");
  });
});
