import fc from "fast-check";
import { expect, it } from "vitest";
import { EventHeap } from "./event-heap.ts";

it("gives events in order of time, and equal times in order of entry", () => {
  const times = fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 60 });
  fc.assert(
    fc.property(times, fc.integer({ min: 0, max: 60 }), (drawn, takenEarly) => {
      const heap = new EventHeap();
      const taken: number[][] = [];
      const take = (): void => {
        void heap.take()?.run();
      };
      for (const [entry, at] of drawn.entries()) {
        heap.add(at, () => {
          taken.push([at, entry]);
        });
      }
      const early = Math.min(takenEarly, drawn.length);
      for (let count = 0; count < early; count++) take();
      heap.add(100, () => {});
      for (let count = early; count < drawn.length; count++) take();
      const expected = drawn
        .map((at, entry) => [at, entry])
        .sort(([a = 0, i = 0], [b = 0, j = 0]) => a - b || i - j);
      expect(taken).toEqual(expected);
      expect(heap.size).toBe(1);
    }),
  );
});
