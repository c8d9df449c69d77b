import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { MemoryResidency } from "../../test/harness/memory-residency.ts";
import { apply, compare, operationArb } from "../../test/harness/residency-histories.ts";
import { blockKey, endpointId, type Holder } from "../core/ids.ts";
import type { Tier } from "../tiers/tier.ts";
import { COPIES_MAX } from "./copy-counts.ts";
import { type HolderCursor, type LogCursor, Residency } from "./residency.ts";

const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };
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
      fc.property(fc.array(operationArb, { maxLength: 30 }), (operations) => {
        const { index, residency } = parts(1e9);
        const plain = new MemoryResidency();
        for (const [seq, operation] of operations.entries()) {
          apply(operation, { residency, plain, seq });
        }
        compare({ index, residency }, plain);
      }),
      { numRuns: 60 },
    );
  });
});
