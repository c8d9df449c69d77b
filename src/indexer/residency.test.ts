import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { blockKey, endpointId, type Holder, holderName } from "../core/ids.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";
import { type BlockRecord, COPIES_MAX, type HolderCursor, Residency } from "./residency.ts";

const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };
const podB1: Holder = { ...podB, rank: 1 };
const cursor: HolderCursor = {
  ...{
    state: "EXACT",
    reason: null,
    epoch: 1,
    seq: 0,
    engineMs: 5,
    blockSizeTokens: 16,
    model: "m",
  },
};

function parts(entriesMax = 1000): { index: MemoryIndex; residency: Residency } {
  const index = new MemoryIndex();
  return { index, residency: new Residency({ index, entriesMax }) };
}

const words = (values: readonly number[]): BigUint64Array => BigUint64Array.from(values, BigInt);
/** Stores handles under keys that are 100 higher. */
const store = (residency: Residency, holder: Holder, tier: Tier, handles: number[]): number =>
  residency.stored(holder, tier, words(handles), words(handles.map((handle) => handle + 100)));
const entries = (index: MemoryIndex): number =>
  Object.values(index.stats().entriesByTier).reduce((sum, count) => sum + count, 0);

describe("copies", () => {
  it("are counted in each tier by itself, and the index has a block once for each tier", () => {
    const { index, residency } = parts();
    store(residency, podA, "gpu", [1, 1]);
    store(residency, podA, "cpu", [1]);
    expect(entries(index)).toBe(2);
    expect(residency.removed(podA, "gpu", words([1]))).toBe(0);
    expect(entries(index)).toBe(2);
    expect(residency.removed(podA, "gpu", words([1, 1]))).toBe(1);
    expect(index.residency(blockKey(101n))).toEqual([{ holder: podA, tier: "cpu" }]);
    residency.removed(podA, "cpu", words([1]));
    expect([...residency.records(podA)]).toEqual([]);
  });

  it("of two handles with one key both count", () => {
    const { index, residency } = parts();
    residency.stored(podA, "gpu", words([1, 2]), words([100, 100]));
    residency.removed(podA, "gpu", words([1]));
    expect(index.residency(blockKey(100n))).toHaveLength(1);
    residency.removed(podA, "gpu", words([2]));
    expect(index.stats().blocks).toBe(0);
  });

  it(`beyond ${COPIES_MAX} are taken as that many`, () => {
    const { index, residency } = parts();
    store(residency, podA, "gpu", new Array(COPIES_MAX + 10).fill(1));
    expect([...residency.records(podA)][0]?.[1].copies).toEqual([COPIES_MAX, 0, 0, 0]);
    expect(residency.removed(podA, "gpu", words(new Array(COPIES_MAX).fill(1)))).toBe(0);
    expect(entries(index)).toBe(0);
  });
});

describe("the limit of entries", () => {
  it("holds for blocks and for further tiers of a block; copies of an entry are free", () => {
    const { index, residency } = parts(2);
    expect(store(residency, podA, "gpu", [1, 2, 3, 1])).toBe(1);
    expect(store(residency, podB, "gpu", [1])).toBe(1);
    expect(store(residency, podA, "cpu", [1])).toBe(1);
    expect(entries(index)).toBe(2);
    residency.removed(podA, "gpu", words([2]));
    expect(store(residency, podA, "cpu", [1])).toBe(0);
    expect(entries(index)).toBe(2);
    residency.cleared(podA);
    expect(store(residency, podB, "gpu", [1, 2])).toBe(0);
  });
});

describe("what is to be written", () => {
  it("is handed over once, and again after a write that failed", () => {
    const { residency } = parts();
    store(residency, podA, "gpu", [1, 2]);
    residency.removed(podA, "gpu", words([2]));
    expect(residency.dirtyRows).toBe(2);
    const dirty = residency.takeDirty();
    expect(dirty.rows).toEqual([
      { holder: podA, handle: 1n, record: { key: 101n, copies: [1, 0, 0, 0] } },
      { holder: podA, handle: 2n, record: null },
    ]);
    expect([residency.dirtyRows, residency.takeDirty().rows]).toEqual([0, []]);
    store(residency, podA, "gpu", [1]);
    residency.putBackDirty(dirty);
    expect(residency.dirtyRows).toBe(2);
    expect(residency.takeDirty().rows).toContainEqual({
      ...{ holder: podA, handle: 1n, record: { key: 101n, copies: [2, 0, 0, 0] } },
    });
  });

  it("says which holders left, until one returns", () => {
    const { residency } = parts();
    store(residency, podA, "gpu", [1]);
    residency.setCursor(podA, cursor);
    residency.forget(podA);
    expect(residency.cursorOf(podA)).toBeNull();
    const dirty = residency.takeDirty();
    expect(dirty).toMatchObject({ rows: [{ record: null }], forgotten: [podA] });
    expect(residency.holders()).toEqual([]);
    residency.putBackDirty(dirty);
    expect(residency.takeDirty()).toMatchObject({ rows: [{ record: null }], forgotten: [podA] });
    residency.forget(podA);
    residency.setCursor(podA, cursor);
    expect(residency.takeDirty().forgotten).toEqual([]);
  });

  it("keeps a holder that returned while the write of its leaving failed", () => {
    const { index, residency } = parts();
    store(residency, podA, "gpu", [1]);
    residency.setCursor(podA, cursor);
    residency.forget(podA);
    const dirty = residency.takeDirty();
    store(residency, podA, "gpu", [2]);
    residency.setCursor(podA, cursor);
    residency.putBackDirty(dirty);
    expect(residency.takeDirty().forgotten).toEqual([]);
    expect(residency.cursorOf(podA)).toEqual(cursor);
    expect([...residency.records(podA)]).toHaveLength(1);
    residency.cleared(podA);
    expect(entries(index)).toBe(0);
  });
});

describe("restoring", () => {
  it("fills the index without marking anything to be written", () => {
    const { index, residency } = parts();
    residency.restore(podA, 1n, { key: blockKey(101n), copies: [2, 0, 1, 0] });
    expect(index.residency(blockKey(101n)).map(({ tier }) => tier)).toEqual(["gpu", "nvme"]);
    expect(residency.dirtyRows).toBe(0);
    residency.removed(podA, "gpu", words([1, 1]));
    expect(index.residency(blockKey(101n)).map(({ tier }) => tier)).toEqual(["nvme"]);
  });
});

describe("any history", () => {
  it("agrees with counting", () => {
    const holders = [podA, podB, podB1];
    const operation = fc.record({
      kind: fc.constantFrom(
        "store",
        "store",
        "store",
        "remove",
        "remove",
        "clear",
        "forget",
        "take",
      ),
      holder: fc.constantFrom(...holders),
      tier: fc.constantFrom(...TIERS),
      handles: fc.array(fc.nat({ max: 7 }), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const { index, residency } = parts();
        const model = new Map<string, number>();
        const written = new Map<string, BlockRecord>();
        const rowName = (holder: Holder, handle: bigint): string =>
          `${holderName(holder)}/${handle}`;
        for (const { kind, holder, tier, handles } of operations) {
          const name = (handle: number): string => `${rowName(holder, BigInt(handle))}/${tier}`;
          if (kind === "store") {
            expect(store(residency, holder, tier, handles)).toBe(0);
            for (const each of handles) model.set(name(each), (model.get(name(each)) ?? 0) + 1);
          }
          if (kind === "remove") {
            let unknown = 0;
            for (const each of handles) {
              const copies = model.get(name(each)) ?? 0;
              if (copies === 0) unknown += 1;
              model.set(name(each), Math.max(0, copies - 1));
            }
            expect(residency.removed(holder, tier, words(handles))).toBe(unknown);
          }
          if (kind === "clear" || kind === "forget") {
            for (const each of model.keys()) {
              if (each.startsWith(`${holderName(holder)}/`)) model.set(each, 0);
            }
            residency[kind === "clear" ? "cleared" : "forget"](holder);
          }
          if (kind === "take") writeRows();
        }
        writeRows();

        function writeRows(): void {
          for (const { holder, handle, record } of residency.takeDirty().rows) {
            if (record === null) written.delete(rowName(holder, handle));
            else written.set(rowName(holder, handle), record);
          }
        }

        const expected = new Map<string, number[]>();
        for (const [name, copies] of model) {
          if (copies === 0) continue;
          const row = name.slice(0, name.lastIndexOf("/"));
          const counts = expected.get(row) ?? [0, 0, 0, 0];
          counts[TIERS.indexOf(name.slice(name.lastIndexOf("/") + 1) as Tier)] = copies;
          expected.set(row, counts);
        }
        const rows = new Map([...written].map(([name, { copies }]) => [name, [...copies]]));
        expect(rows).toEqual(expected);
        expect(entries(index)).toBe(
          [...expected.values()].flat().filter((copies) => copies > 0).length,
        );
        for (let handle = 0; handle < 8; handle += 1) {
          const found = index.residency(blockKey(BigInt(handle + 100)));
          const names = found.map(
            ({ holder, tier }) => `${rowName(holder, BigInt(handle))}/${tier}`,
          );
          const held = [...model].flatMap(([name, copies]) =>
            copies > 0 && name.includes(`/${handle}/`) ? [name] : [],
          );
          expect(names.sort()).toEqual(held.sort());
        }
      }),
      { numRuns: 200 },
    );
  });
});
