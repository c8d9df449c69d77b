import { describe, expect, it } from "vitest";
import { seededRandom } from "./random.ts";

describe("seededRandom", () => {
  it("repeats itself for a seed and differs between seeds", () => {
    const take = (seed: number): number[] => {
      const random = seededRandom(seed);
      return Array.from({ length: 5 }, () => random.next());
    };
    expect(take(7)).toEqual(take(7));
    expect(take(7)).not.toEqual(take(8));
  });

  it("is uniform in [0, 1)", () => {
    const random = seededRandom(1);
    const draws = 100_000;
    const counts: number[] = Array(10).fill(0);
    for (let draw = 0; draw < draws; draw += 1) {
      const value = random.next();
      expect(value >= 0 && value < 1).toBe(true);
      const tenth = Math.floor(value * 10);
      counts[tenth] = (counts[tenth] ?? 0) + 1;
    }
    // Five standard deviations of a tenth's count.
    for (const count of counts) expect(Math.abs(count - draws / 10)).toBeLessThan(475);
  });
});
