import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { percentile, summarize } from "./percentile.ts";

describe("percentile", () => {
  it("takes the nearest rank", () => {
    const values = Array.from({ length: 100 }, (_, index) => index + 1);
    expect(percentile(values, 0.5)).toBe(50);
    expect(percentile(values, 0.99)).toBe(99);
    expect(percentile(values, 1)).toBe(100);
    expect(percentile([7], 0.99)).toBe(7);
  });

  it("is the smallest value that enough values do not exceed", () => {
    const values = fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1 });
    fc.assert(
      fc.property(values, fc.double({ min: 0.01, max: 1, noNaN: true }), (unsorted, share) => {
        const sorted = unsorted.toSorted((a, b) => a - b);
        const covers = (limit: number): boolean =>
          sorted.filter((value) => value <= limit).length >= share * sorted.length;
        expect(percentile(sorted, share)).toBe(sorted.find(covers));
      }),
    );
  });

  it("sums up in any order, and says 0 for nothing", () => {
    expect(summarize([30, 10, 20])).toEqual({ count: 3, mean: 20, p50: 20, p99: 30 });
    expect(summarize([])).toEqual({ count: 0, mean: 0, p50: 0, p99: 0 });
  });
});
