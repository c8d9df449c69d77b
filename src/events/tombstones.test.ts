import fc from "fast-check";
import { expect, it } from "vitest";
import { NO_PLACE, Tombstones } from "./tombstones.ts";

const SIZE_MAX = 90;

/** Words of handles that all hash alike: high is free, low undoes it. */
function colliding(number: number): readonly [number, number] {
  return [Math.imul(number, 0x9e37_79b1) >>> 0, number];
}

it.each([
  ["spread", (number: number): readonly [number, number] => [number, 0]],
  ["all at one place", colliding],
])("agrees with a map in the order of removal, also where handles are %s", (_, wordsOf) => {
  const operation = fc.record({
    first: fc.nat({ max: 200 }),
    count: fc.integer({ min: 1, max: 60 }),
    isTakenBack: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(operation, { minLength: 20, maxLength: 60 }), (operations) => {
      const tombstones = new Tombstones(SIZE_MAX);
      const keys = new Map<number, number>();
      for (const [step, { first, count, isTakenBack }] of operations.entries()) {
        for (let number = first; number < first + count; number += 1) {
          const [low, high] = wordsOf(number);
          const place = tombstones.find(low, high);
          expect(place !== NO_PLACE).toBe(keys.has(number));
          if (place !== NO_PLACE) {
            expect(tombstones.keyLow(place)).toBe(keys.get(number));
            tombstones.takeBack(place);
            keys.delete(number);
          }
          if (isTakenBack) continue;
          tombstones.push(low, high, step, 7);
          keys.set(number, step);
          for (const oldest of keys.keys()) {
            if (keys.size > SIZE_MAX) keys.delete(oldest);
            else break;
          }
        }
        expect(tombstones.size).toBe(keys.size);
        const claimed = new Set(keys.values());
        for (let key = 0; key <= step; key += 1) {
          expect(tombstones.hasKey(key, 7)).toBe(claimed.has(key));
        }
      }
    }),
    { numRuns: 60 },
  );
});

it("tells removals apart after more of them than their numbers count", () => {
  const tombstones = new Tombstones(SIZE_MAX);
  for (let number = 0; number < 1_500_000; number += 1) {
    tombstones.push(number, 1, number, 2);
    // One is taken back now and then, and said again.
    const place = number % 5 === 0 ? tombstones.find(number - (number % SIZE_MAX), 1) : NO_PLACE;
    if (place !== NO_PLACE) tombstones.takeBack(place);
  }
  const found = Array.from({ length: 1_500_000 }, (_, number) => number).filter(
    (number) => tombstones.find(number, 1) !== NO_PLACE,
  );
  expect(found.length).toBe(tombstones.size);
  expect(found.every((number) => number >= 1_500_000 - 2 * SIZE_MAX)).toBe(true);
  expect(found.every((number) => tombstones.hasKey(number, 2))).toBe(true);
});
