import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Slab } from "./slab.ts";

describe("slab", () => {
  it("hands out pieces of zeros that never overlap, however long", () => {
    const request = fc.record({ isWide: fc.boolean(), length: fc.nat({ max: 5000 }) });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 60 }), (requests) => {
        const slab = new Slab();
        const pieces = requests.map(({ isWide, length }, position) => {
          const piece = isWide ? slab.u64(length) : slab.u32(length);
          expect(piece.length).toBe(length);
          expect(piece.every((value) => Number(value) === 0)).toBe(true);
          if (piece instanceof BigUint64Array) piece.fill(BigInt(position + 1));
          else piece.fill(position + 1);
          return piece;
        });
        for (const [position, piece] of pieces.entries()) {
          expect(piece.every((value) => Number(value) === position + 1)).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
  });

  it("copies words to places of their own, however many", () => {
    const source = Uint32Array.from({ length: 8000 }, (_, at) => at);
    const request = fc.tuple(fc.nat({ max: 3000 }), fc.nat({ max: 5000 }));
    fc.assert(
      fc.property(fc.array(request, { maxLength: 60 }), (requests) => {
        const slab = new Slab();
        const copies = requests.map(([start, length]) => {
          const place = slab.copy(source, start, start + length);
          expect(place % 8).toBe(0);
          return { start, copy: new Uint32Array(slab.buffer, place, length) };
        });
        for (const { start, copy } of copies) {
          expect(copy).toEqual(source.slice(start, start + copy.length));
        }
      }),
      { numRuns: 50 },
    );
  });
});
