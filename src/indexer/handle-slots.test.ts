import fc from "fast-check";
import { expect, it } from "vitest";
import { seededRandom } from "../core/random.ts";
import { HandleSlots, NO_ROW } from "./handle-slots.ts";

const ROWS = 800;

/** Handles of which every one hashes like every other: high is free, low undoes it. */
function colliding(number: number): readonly [number, number] {
  return [Math.imul(number, 0x9e37_79b1) >>> 0, number];
}

/** The same at five places, whose runs grow into each other. */
function crowded(number: number): readonly [number, number] {
  const [low, high] = colliding(number);
  return [(low ^ (number % 5)) >>> 0, high];
}

it.each([
  ["spread", (number: number): readonly [number, number] => [number, 0]],
  // More of them than distances fit in a slot.
  ["all at one place", colliding],
  ["at a few places", crowded],
])("agrees with a map, also where handles are %s", (_, handleOf) => {
  const operation = fc.record({
    isInsert: fc.boolean(),
    first: fc.nat({ max: ROWS - 1 }),
    count: fc.integer({ min: 1, max: 400 }),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
      const handles = new Uint32Array(2 * ROWS);
      const slots = new HandleSlots(handles);
      const rows = new Map<number, number>();
      const free = Array.from({ length: ROWS }, (__, row) => row);
      for (const { isInsert, first, count } of operations) {
        for (let number = first; number < Math.min(ROWS, first + count); number += 1) {
          const [low, high] = handleOf(number);
          const row = rows.get(number);
          expect(slots.find(low, high)).toBe(row ?? NO_ROW);
          if (isInsert && row === undefined) {
            const fresh = free.pop() ?? 0;
            handles[2 * fresh] = low;
            handles[2 * fresh + 1] = high;
            if (number % 2 === 0) slots.insert(fresh);
            else slots.insert(fresh);
            rows.set(number, fresh);
          }
          if (!isInsert && row !== undefined) {
            slots.delete(row);
            rows.delete(number);
            free.push(row);
          }
        }
      }
      for (let number = 0; number < ROWS; number += 1) {
        const [low, high] = handleOf(number);
        expect(slots.find(low, high)).toBe(rows.get(number) ?? NO_ROW);
      }
    }),
    { numRuns: 30 },
  );
});

it("finds every row of a full table whose rows are replaced over and over", () => {
  const handles = new Uint32Array(2 * ROWS);
  const slots = new HandleSlots(handles);
  const random = seededRandom(1);
  for (let number = 1; number < 400 * ROWS; number += 1) {
    const row = Math.floor(random.next() * ROWS);
    if (handles[2 * row + 1] !== 0) slots.delete(row);
    const [low, high] = number % 4 === 0 ? crowded(number) : [7 * number, number];
    expect(slots.find(low, high)).toBe(NO_ROW);
    handles[2 * row] = low;
    handles[2 * row + 1] = high;
    slots.insertMissed(row);
  }
  for (let row = 0; row < ROWS; row += 1) {
    const [low = 0, high = 0] = [handles[2 * row], handles[2 * row + 1]];
    expect(slots.find(low, high)).toBe(high === 0 ? NO_ROW : row);
  }
});
