import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NO_ID, U64Table } from "./u64-table.ts";

/** Few words, at the edges: so that keys meet again, and share one of their words. */
const word = fc.oneof(
  fc.constantFrom(0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
  fc.nat({ max: 40 }),
);
const operation = fc.record({
  kind: fc.constantFrom("insert", "insert", "insert", "delete"),
  low: word,
  high: word,
  near: fc.integer({ min: -2, max: 300 }),
});

const keyOf = (low: number, high: number): bigint => (BigInt(high) << 32n) | BigInt(low);

function expectSame(table: U64Table, model: ReadonlyMap<bigint, number>): void {
  expect(table.size).toBe(model.size);
  for (const [key, id] of model) {
    const [low, high] = [Number(key & 0xffff_ffffn), Number(key >> 32n)];
    expect(table.find(low, high, NO_ID)).toBe(id);
    expect([table.low(id), table.high(id), table.isLive(id)]).toEqual([low, high, true]);
  }
  const live = Array.from({ length: table.idEnd }, (_, id) => id).filter((id) => table.isLive(id));
  expect(live).toEqual([...model.values()].sort((a, b) => a - b));
}

describe("u64 table", () => {
  it("does what a map does, with any guess, while it grows and shrinks", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 600, size: "max" }), (operations) => {
        const table = new U64Table();
        const model = new Map<bigint, number>();
        for (const { kind, low, high, near } of operations) {
          const key = keyOf(low, high);
          const id = table.find(low, high, near);
          expect(id).toBe(model.get(key) ?? NO_ID);
          if (kind === "insert" && id === NO_ID) model.set(key, table.insert(low, high));
          if (kind === "delete" && id !== NO_ID) {
            table.delete(id);
            model.delete(key);
          }
        }
        expectSame(table, model);
        table.clear();
        expectSame(table, new Map());
      }),
      { numRuns: 200 },
    );
  });

  it("holds 100,000 keys that count up through deletion of every other one", () => {
    const table = new U64Table();
    for (let low = 0; low < 100_000; low += 1) expect(table.insert(low, 7)).toBe(low);
    for (let low = 0; low < 100_000; low += 2) table.delete(low);
    expect(table.size).toBe(50_000);
    for (let low = 0; low < 100_000; low += 1) {
      expect(table.find(low, 7, NO_ID)).toBe(low % 2 === 0 ? NO_ID : low);
    }
  });
});
