import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { MemoryResidency } from "../../test/harness/memory-residency.ts";
import { apply, compare, operationArb } from "../../test/harness/residency-histories.ts";
import { RowNames } from "../../test/harness/row-names.ts";
import { blockKey, endpointId, type Holder } from "../core/ids.ts";
import type { Tier } from "../tiers/tier.ts";
import { COPIES_MAX } from "./copy-counts.ts";
import { type HolderCursor, type LogCursor, Residency } from "./residency.ts";

const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };
const podC: Holder = { endpointId: endpointId("10.0.0.3:8000"), rank: 0 };
const cursor: HolderCursor = {
  ...{
    state: "EXACT",
    reason: null,
    epoch: 1,
    seq: 0,
    engineMs: 5,
    blockSizesTokens: [16],
    model: "m",
    ignoredGroups: [],
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

  it("of two handles with one key are found no more, until the engine begins a new life", () => {
    const { index, residency } = parts();
    const isFound = (): boolean => index.residency(blockKey(100n)).length > 0;
    residency.stored(podA, "gpu", words([1, 1]), words([100, 100]));
    residency.stored(podA, "cpu", words([1]), words([100]));
    expect([isFound(), residency.takeAmbiguousFound()]).toEqual([true, 0]);
    residency.stored(podA, "nvme", words([2, 3]), words([100, 100]));
    expect([isFound(), residency.takeAmbiguousFound()]).toEqual([false, 1]);
    residency.removed(podA, "nvme", words([2, 3]));
    residency.stored(podA, "gpu", words([4, 5]), words([100, 101]));
    expect([isFound(), entries(index)]).toEqual([false, 1]);
    residency.cleared(podA);
    residency.stored(podA, "gpu", words([1]), words([100]));
    expect([isFound(), entries(index)]).toEqual([false, 0]);
    residency.startAnew(podA);
    residency.stored(podA, "gpu", words([1]), words([100]));
    expect([isFound(), entries(index)]).toEqual([true, 1]);
  });

  it("of one key in one event are told apart like any others", () => {
    const { index, residency } = parts();
    residency.stored(podA, "gpu", words([1, 2]), words([100, 100]));
    expect(entries(index)).toBe(0);
    expect(residency.isAmbiguous(podA, 100n)).toBe(true);
  });

  it(`beyond ${COPIES_MAX} are taken as that many`, () => {
    const { index, residency } = parts();
    store(residency, podA, "gpu", new Array(COPIES_MAX + 10).fill(1));
    expect([...residency.records(podA)][0]?.[1].copies).toEqual([COPIES_MAX, 0, 0, 0]);
    expect(residency.removed(podA, "gpu", words(new Array(COPIES_MAX).fill(1)))).toBe(0);
    expect(entries(index)).toBe(0);
  });
});

describe("a full index", () => {
  function full(entriesMax: number): {
    readonly index: MemoryIndex;
    readonly residency: Residency;
    readonly evicted: Map<Holder, number>;
  } {
    const index = new MemoryIndex();
    const evicted = new Map<Holder, number>();
    const onEvicted = (holder: Holder, blocks: number): void => {
      evicted.set(holder, (evicted.get(holder) ?? 0) + blocks);
    };
    return {
      index,
      evicted,
      residency: new Residency({ index, entriesMax, guide: index, onEvicted }),
    };
  }
  const range = (first: number, count: number): number[] =>
    Array.from({ length: count }, (_, each) => first + each);

  it("evicts from the largest holder, which says so, and copies of an entry are free", () => {
    const { index, residency, evicted } = full(1000);
    store(residency, podA, "gpu", range(0, 700));
    residency.setCursor(podA, cursor);
    store(residency, podB, "gpu", range(1000, 300));
    residency.setCursor(podB, cursor);
    expect(store(residency, podB, "gpu", range(2000, 10))).toBe(0);
    expect(evicted).toEqual(new Map([[podA, 10]]));
    expect(residency.cursorOf(podA)).toMatchObject({ state: "DEGRADED", reason: "index-full" });
    expect(residency.cursorOf(podB)).toEqual(cursor);
    expect(entries(index)).toBe(1000);
    // The last rows of a page went, the first are there.
    expect(index.residency(blockKey(100n))).toHaveLength(1);
    expect(residency.takeFlush(1e6).holders[0]).toMatchObject({ blocks: 690 });
  });

  it("takes from all holders the same share", () => {
    const { residency, evicted } = full(10_000);
    store(residency, podA, "gpu", range(0, 7500));
    residency.setCursor(podA, cursor);
    store(residency, podB, "gpu", range(10_000, 2500));
    residency.setCursor(podB, { ...cursor, state: "DEGRADED", reason: "gap" });
    for (let at = 0; at < 200; at += 1) store(residency, podC, "gpu", range(20_000 + 30 * at, 30));
    const lostA = (evicted.get(podA) ?? 0) / 7500;
    const lostB = (evicted.get(podB) ?? 0) / 2500;
    expect(lostA).toBeGreaterThan(0.4);
    expect(Math.abs(lostA - lostB)).toBeLessThan(0.1);
  });

  it("spares what prompts ask for, as long as there is anything else", () => {
    const { index, residency } = full(1000);
    store(residency, podA, "gpu", range(0, 1000));
    const asked = words(range(100, 300));
    for (let at = 0; at < 30; at += 1) {
      index.match(asked);
      store(residency, podA, "gpu", range(2000 + 100 * at, 100));
    }
    expect(index.match(asked)).toMatchObject([{ blocks: 300 }]);
  });

  it("spares what several holders have, as long as there is anything else", () => {
    const { index, residency } = full(1000);
    store(residency, podA, "gpu", range(0, 500));
    store(residency, podB, "gpu", range(0, 100));
    store(residency, podB, "gpu", range(2000, 800));
    const shared = range(100, 100).map((key) => index.residency(blockKey(BigInt(key))).length);
    expect(shared).toEqual(new Array(100).fill(2));
    expect(entries(index)).toBeLessThanOrEqual(1000);
  });

  it("tells the holder that stores of its own blocks that went", () => {
    const { index, residency } = full(100);
    expect(store(residency, podA, "gpu", range(0, 100))).toBe(0);
    expect(store(residency, podA, "gpu", range(100, 40))).toBe(40);
    expect(store(residency, podA, "gpu", range(1000, 150))).toBe(150);
    expect(entries(index)).toBe(100);
    expect(residency.blocksOf(podA)).toBe(100);
  });

  it("is never over its limit, and agrees with the index, whatever happens", () => {
    fc.assert(
      fc.property(fc.array(operationArb, { maxLength: 20 }), (operations) => {
        const { index, residency } = full(400);
        for (const operation of operations) {
          const { holder, tier, first, count } = operation;
          const words = BigUint64Array.from(range(first, count), BigInt);
          if (operation.kind === "store") residency.stored(holder, tier, words, words);
          if (operation.kind === "remove") residency.removed(holder, tier, words);
          expect(entries(index)).toBeLessThanOrEqual(400);
          let held = 0;
          for (const each of residency.holders()) {
            for (const [, { copies }] of residency.records(each)) {
              held += copies.filter((copiesOfTier) => copiesOfTier > 0).length;
            }
          }
          expect(entries(index)).toBe(held);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe("what is to be written", () => {
  it("is taken once, and again after a write that failed", () => {
    const { residency } = parts();
    store(residency, podA, "gpu", [1, 2]);
    expect([residency.isDirty, residency.dirtyPages]).toEqual([true, 1]);
    const flush = residency.takeFlush(1e6);
    expect(flush).toMatchObject({
      holders: [{ holder: podA, blocks: 2, pages: 1, changed: [0] }],
      isRoundEnd: true,
    });
    expect([residency.isDirty, residency.dirtyPages]).toEqual([false, 0]);
    residency.removed(podA, "gpu", words([1]));
    residency.putBack(flush);
    expect(residency.takeFlush(1e6).holders).toMatchObject([{ blocks: 1, changed: [0] }]);
    expect(residency.isDirty).toBe(false);
  });

  it("says which holders left, if the store has anything of them", () => {
    const { residency } = parts();
    store(residency, podA, "gpu", [1]);
    residency.forget(podA);
    expect([residency.isDirty, residency.holders(), residency.cursorOf(podA)]).toEqual([
      ...[false, [], null],
    ]);
    residency.setCursor(podA, cursor);
    residency.takeFlush(1e6);
    residency.forget(podA);
    const flush = residency.takeFlush(1e6);
    expect(flush).toMatchObject({ holders: [], forgotten: [podA] });
    residency.putBack(flush);
    store(residency, podA, "gpu", [2]);
    expect(residency.takeFlush(1e6)).toMatchObject({
      holders: [{ holder: podA, blocks: 1 }],
      forgotten: [podA],
    });
  });

  it("lies in memory that an earlier one gave back, where that is large enough", () => {
    const { residency } = parts();
    store(residency, podA, "gpu", [1]);
    const memory = residency.takeFlush(1e6).bytes.buffer;
    residency.giveBack(memory);
    store(residency, podA, "gpu", [2]);
    expect(residency.takeFlush(1e6).bytes.buffer).toBe(memory);
    residency.giveBack(memory);
    store(
      residency,
      podA,
      "gpu",
      Array.from({ length: 2000 }, (_, block) => block),
    );
    expect(residency.takeFlush(1e6).bytes.buffer).not.toBe(memory);
  });

  it("comes in portions, and the log's cursor with the last one, as it was at their beginning", () => {
    const { residency } = parts();
    const cursorAt = (seq: number): LogCursor => ({ stream: "s", seq });
    store(residency, podA, "gpu", [1]);
    store(residency, podB, "gpu", [1]);
    residency.setLogCursor(cursorAt(1));
    const first = residency.takeFlush(1);
    expect(first).toMatchObject({
      ...{ holders: [{ holder: podA }], logCursor: null, isRoundEnd: false },
    });
    store(residency, podA, "gpu", [2]);
    residency.setLogCursor(cursorAt(2));
    const second = residency.takeFlush(1);
    expect(second).toMatchObject({
      ...{ holders: [{ holder: podB }], logCursor: cursorAt(1), isRoundEnd: true },
    });
    residency.putBack(second);
    expect(residency.takeFlush(1e6)).toMatchObject({
      holders: [{ holder: podA }, { holder: podB }],
      logCursor: cursorAt(2),
    });
    expect(residency.isDirty).toBe(false);
  });
});

describe("any history", () => {
  it("agrees with the plain residency", () => {
    fc.assert(
      fc.property(
        fc.array(operationArb, { maxLength: 30 }),
        fc.boolean(),
        (operations, isNamed) => {
          const { index, residency } = parts(1e9);
          const plain = new MemoryResidency();
          const names = isNamed ? new RowNames() : null;
          for (const [seq, operation] of operations.entries()) {
            apply(operation, { residency, plain, seq, names });
          }
          compare({ index, residency }, plain);
        },
      ),
      { numRuns: 100 },
    );
  });

  it("are no others where a relay stops naming rows, or names those of another holder", () => {
    const stages = fc.record({
      operations: fc.array(operationArb, { maxLength: 8 }),
      how: fc.constantFrom("named", "unnamed", "disregarded"),
    });
    fc.assert(
      fc.property(fc.array(stages, { maxLength: 6 }), (histories) => {
        const { index, residency } = parts(1e9);
        const plain = new MemoryResidency();
        let names = new RowNames();
        for (const { operations, how } of histories) {
          if (how === "disregarded") {
            for (const holder of residency.holders()) residency.disregardRows(holder);
            names = new RowNames();
          }
          for (const [seq, operation] of operations.entries()) {
            apply(operation, { residency, plain, seq, names: how === "unnamed" ? null : names });
          }
          if (how === "unnamed") names.restore(residency);
        }
        compare({ index, residency }, plain);
      }),
      { numRuns: 100 },
    );
  });
});
