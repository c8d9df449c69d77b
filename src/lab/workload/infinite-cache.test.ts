import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { measureReuse } from "./infinite-cache.ts";

describe("infinite cache", () => {
  it("never counts a prompt's last token", () => {
    const prompt = Uint32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    expect(measureReuse([prompt, prompt], 4)).toEqual({ promptTokens: 16, reusableTokens: 4 });
  });

  it("agrees with a comparison of every prompt with all before it", () => {
    const prompt = fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(
        fc.array(prompt, { maxLength: 8 }),
        fc.integer({ min: 1, max: 4 }),
        (all, size) => {
          const measured = measureReuse(
            all.map((tokens) => Uint32Array.from(tokens)),
            size,
          );
          const expected = all.map((tokens, index) =>
            Math.max(
              0,
              ...all.slice(0, index).map((earlier) => sharedBlocks(earlier, tokens, size)),
            ),
          );
          expect(measured.reusableTokens).toBe(
            expected.reduce((sum, blocks) => sum + blocks * size, 0),
          );
        },
      ),
    );
  });
});

/** Full blocks of both that are equal from the start, short of the later one's last token. */
function sharedBlocks(earlier: readonly number[], later: readonly number[], size: number): number {
  let blocks = 0;
  while (true) {
    const end = (blocks + 1) * size;
    if (end > earlier.length || end > later.length - 1) return blocks;
    if (earlier.slice(0, end).join() !== later.slice(0, end).join()) return blocks;
    blocks += 1;
  }
}
