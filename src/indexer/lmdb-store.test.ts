import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { type Database, open, type RootDatabase } from "lmdb";
import { afterEach, describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { blockKey, endpointId, type Holder, holderName } from "../core/ids.ts";
import { TIERS } from "../tiers/tier.ts";
import { LmdbStore, type RestoreOutcome } from "./lmdb-store.ts";
import { type HolderCursor, Residency } from "./residency.ts";

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
  ...{ state: "EXACT", reason: null, epoch: 1, seq, engineMs: 5, blockSizeTokens: 16, model: "m" },
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

function openStore(folder: string, keySeed = 0): Opened {
  const store = new LmdbStore(folder, keySeed);
  const index = new MemoryIndex();
  const residency = new Residency({ index, entriesMax: 10_000 });
  return { store, index, residency, outcome: store.restore(residency) };
}

/** Everything that a restart must bring back. */
function contents({ index, residency }: Pick<Opened, "index" | "residency">): unknown {
  const tables = residency.holders().map((holder) => ({
    name: holderName(holder),
    cursor: residency.cursorOf(holder),
    records: [...residency.records(holder)]
      .map(([handle, { key, copies }]) => `${handle}: ${key} ${copies}`)
      .sort(),
  }));
  const keys = Array.from({ length: 10 }, (_, handle) => BigInt(handle + 100));
  return {
    tables: tables
      .filter(({ cursor, records }) => cursor !== null || records.length > 0)
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    logCursor: residency.logCursor,
    stats: index.stats(),
    holdersOfKeys: keys.map((key) =>
      index
        .residency(blockKey(key))
        .map(({ holder, tier }) => `${holderName(holder)} ${tier}`)
        .sort(),
    ),
  };
}

const words = (values: readonly number[]): BigUint64Array => BigUint64Array.from(values, BigInt);
const storeBlocks = (residency: Residency, holder: Holder, handles: number[]): number =>
  residency.stored(holder, "gpu", words(handles), words(handles.map((handle) => handle + 100)));
const handlesOf = (residency: Residency, holder: Holder): bigint[] =>
  [...residency.records(holder)].map(([handle]) => handle).sort((a, b) => (a < b ? -1 : 1));

describe("restoring", () => {
  it("gives back index and cursors after any history with flushes at any points", async () => {
    const operation = fc.record({
      kind: fc.constantFrom(
        ...(["store", "store", "store", "remove", "clear", "forget", "flush", "reopen"] as const),
      ),
      holder: fc.constantFrom(...holders),
      tier: fc.constantFrom(...TIERS),
      handles: fc.array(fc.nat({ max: 9 }), { maxLength: 5 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (operations) => {
        const folder = newFolder();
        let opened = openStore(folder);
        const reopen = async (): Promise<void> => {
          opened.store.flush(opened.residency);
          const before = contents(opened);
          await opened.store.close();
          opened = openStore(folder);
          expect(contents(opened)).toEqual(before);
          expect(opened.outcome).toMatchObject({ rowsRefused: 0, isEmptied: false });
        };
        for (const [seq, { kind, holder, tier, handles }] of operations.entries()) {
          const { residency, store } = opened;
          const keys = words(handles.map((handle) => handle + 100));
          if (kind === "store") residency.stored(holder, tier, words(handles), keys);
          if (kind === "remove") residency.removed(holder, tier, words(handles));
          if (kind === "clear") residency.cleared(holder);
          if (kind === "forget") residency.forget(holder);
          else residency.setCursor(holder, cursorAt(seq, { reason: tier, blockSizeTokens: null }));
          residency.setLogCursor({ stream: tier, seq });
          if (kind === "flush") store.flush(residency);
          if (kind === "reopen") await reopen();
        }
        await reopen();
        await opened.store.close();
      }),
      { numRuns: 25 },
    );
  });

  it("forgets a holder's rows and cursor when it left, and does not mix it up when it returns", async () => {
    const folder = newFolder();
    const first = openStore(folder);
    for (const holder of holders) {
      storeBlocks(first.residency, holder, [1, 2]);
      first.residency.setCursor(holder, cursorAt(5));
    }
    first.store.flush(first.residency);
    first.residency.forget(podB);
    first.store.flush(first.residency);
    await first.store.close();

    const second = openStore(folder);
    expect(second.outcome).toMatchObject({ rows: 4, holders: 2 });
    expect(second.residency.cursorOf(podB)).toBeNull();
    storeBlocks(second.residency, podB, [3]);
    second.residency.setCursor(podB, cursorAt(0));
    second.store.flush(second.residency);
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
  it("that fails writes nothing, and its rows are written by the next", async () => {
    const folder = newFolder();
    const { store, residency } = openStore(folder);
    storeBlocks(residency, podA, [1]);
    residency.setCursor(podA, cursorAt(0));
    store.flush(residency);

    storeBlocks(residency, podA, [2, 3]);
    residency.forget(podB);
    const poison = (): never => {
      throw new Error("no cursor today");
    };
    residency.setCursor(podA, Object.assign(cursorAt(1), { toJSON: poison }));
    expect(() => store.flush(residency)).toThrow("no cursor today");
    expect(residency.dirtyRows).toBe(2);
    await store.close();
    expect(() => store.flush(residency)).toThrow();
    expect(residency.dirtyRows).toBe(2);

    const again = openStore(folder);
    expect(handlesOf(again.residency, podA)).toEqual([1n]);
    expect(again.residency.cursorOf(podA)).toEqual(cursorAt(0));
    await again.store.close();

    const next = new LmdbStore(folder);
    next.restore(new Residency({ index: new MemoryIndex(), entriesMax: 10 }));
    residency.setCursor(podA, cursorAt(1));
    expect(next.flush(residency)).toBe(2);
    await next.close();
    const last = openStore(folder);
    expect(handlesOf(last.residency, podA)).toEqual([1n, 2n, 3n]);
    expect(last.residency.cursorOf(podA)).toEqual(cursorAt(1));
    await last.store.close();
  });

  it("that lost rows on disk leaves its holder DEGRADED, not EXACT on part of its blocks", async () => {
    const folder = newFolder();
    const { store, residency } = openStore(folder);
    storeBlocks(residency, podA, [1, 2, 3]);
    storeBlocks(residency, podB, [4]);
    residency.setCursor(podA, cursorAt(0));
    residency.setCursor(podB, cursorAt(0));
    store.flush(residency);
    await store.close();
    const root = openRaw(folder);
    const blocks = rawBlocks(root);
    const [first] = [...blocks.getKeys()];
    if (first !== undefined) await blocks.remove(first);
    await root.close();

    const again = openStore(folder);
    expect(again.outcome).toMatchObject({ rows: 3, holdersDamaged: 1, rowsRefused: 0 });
    expect(again.residency.cursorOf(podA)).toMatchObject({
      ...{ state: "DEGRADED", reason: "store-damaged" },
    });
    expect(again.residency.cursorOf(podB)).toMatchObject({ state: "EXACT" });
    await again.store.close();
  });

  it("that runs while events go on leaves the later ones for the next", async () => {
    const folder = newFolder();
    const { store, residency } = openStore(folder);
    for (let block = 0; block < 200; block += 1) {
      storeBlocks(residency, podA, [block]);
      residency.setCursor(podA, cursorAt(block));
      if (block % 7 === 0) store.flush(residency);
    }
    store.flush(residency);
    expect(residency.dirtyRows).toBe(0);
    await store.close();
    const again = openStore(folder);
    expect(handlesOf(again.residency, podA)).toHaveLength(200);
    expect(again.residency.cursorOf(podA)?.seq).toBe(199);
    await again.store.close();
  });
});

describe("a store that is not as it should be", () => {
  async function filledFolder(): Promise<string> {
    const folder = newFolder();
    const { store, residency } = openStore(folder);
    storeBlocks(residency, podA, [1, 2]);
    storeBlocks(residency, podB, [3]);
    residency.setCursor(podA, cursorAt(7));
    residency.setCursor(podB, cursorAt(8));
    residency.setLogCursor({ stream: "s", seq: 9 });
    store.flush(residency);
    await store.close();
    return folder;
  }

  it("of another layout is emptied, and that is said", async () => {
    const folder = await filledFolder();
    const root = openRaw(folder);
    await root.put("layout", 999);
    await root.close();
    const { store, residency, outcome } = openStore(folder);
    expect(outcome).toEqual({
      rows: 0,
      holders: 0,
      rowsRefused: 0,
      holdersDamaged: 0,
      isEmptied: true,
    });
    expect([residency.holders(), residency.logCursor]).toEqual([[], null]);
    await store.close();
    const again = openStore(folder);
    expect(again.outcome).toMatchObject({ rows: 0, holders: 0, rowsRefused: 0, isEmptied: false });
    await again.store.close();
  });

  it("of another key seed is emptied, and that is said", async () => {
    const folder = await filledFolder();
    const other = openStore(folder, 5);
    expect(other.outcome).toMatchObject({ rows: 0, isEmptied: true });
    await other.store.close();
    const again = openStore(folder, 5);
    expect(again.outcome).toMatchObject({ rows: 0, isEmptied: false });
    await again.store.close();
  });

  it("gives what can be read; rows of bad length are left out and counted", async () => {
    const folder = await filledFolder();
    const root = openRaw(folder);
    const blocks = rawBlocks(root);
    const key = (slot: number, handle: bigint): Buffer => {
      const bytes = Buffer.alloc(12);
      bytes.writeUInt32BE(slot, 0);
      bytes.writeBigUInt64BE(handle, 4);
      return bytes;
    };
    const value = Buffer.alloc(16, 1);
    await blocks.put(key(0, 50n), value.subarray(0, 15));
    await blocks.put(key(0, 51n), Buffer.alloc(17, 1));
    await blocks.put(key(77, 1n), value);
    await blocks.put(Buffer.from([0, 0]), value);
    await blocks.put(Buffer.concat([key(0, 52n), Buffer.from([9])]), value);
    await blocks.put(key(0, 53n), Buffer.alloc(16, 0));
    await root.close();

    const { store, residency, outcome } = openStore(folder);
    expect(outcome).toMatchObject({ rows: 3, holders: 2, rowsRefused: 6, isEmptied: false });
    expect(handlesOf(residency, podA)).toEqual([1n, 2n]);
    store.flush(residency);
    await store.close();
    const again = openStore(folder);
    expect(again.outcome).toMatchObject({ rows: 3, rowsRefused: 0 });
    await again.store.close();
  });

  it.each([
    ["has a field of another type", '{"slot":"0"}'],
    ["is no JSON", "{"],
    ["has no address", '{"slot":1,"endpoint":"nowhere","rank":0,"cursor":null}'],
  ])("leaves out a holder whose row %s, and never gives its blocks to another", async (_, text) => {
    const folder = await filledFolder();
    const root = openRaw(folder);
    const rows = root.openDB<string, string>({ name: "holders", encoding: "string" });
    await rows.put(holderName(podB), text);
    await root.close();

    const first = openStore(folder);
    expect(first.outcome).toMatchObject({ rows: 2, holders: 1 });
    expect(first.outcome.rowsRefused).toBeGreaterThan(0);
    expect(first.residency.cursorOf(podB)).toBeNull();
    // It comes back, as does another one: both start without blocks.
    for (const holder of [podB, podB1]) {
      storeBlocks(first.residency, holder, [8]);
      first.residency.setCursor(holder, cursorAt(0));
    }
    first.store.flush(first.residency);
    await first.store.close();
    const second = openStore(folder);
    expect(holders.map((holder) => handlesOf(second.residency, holder))).toEqual([
      [1n, 2n],
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
    expect(outcome).toMatchObject({ rows: 3, rowsRefused: 1 });
    expect(residency.logCursor).toBeNull();
    await store.close();
  });

  it("at a path that is a file is an error with its code", () => {
    const file = join(newFolder(), "file");
    writeFileSync(file, "");
    expect(() => new LmdbStore(join(file, "store"))).toThrow(
      expect.objectContaining({ code: "ERR_STORE_OPEN" }),
    );
  });
});
