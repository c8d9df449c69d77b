import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blockKey, engineKey } from "../core/ids.ts";
import { HANDLES_MAX, HandleMap, TOMBSTONES_MAX } from "./handle-map.ts";

describe("handle map", () => {
  const key = blockKey(1n);
  const handle = (value: number): ReturnType<typeof engineKey> => engineKey(BigInt(value));

  it("forgets the oldest of the removed handles first, and a handle stored again not at all", () => {
    const map = new HandleMap();
    for (let value = 0; value < TOMBSTONES_MAX; value += 1) {
      map.add(handle(value), key);
      map.remove(handle(value));
    }
    map.add(handle(0), key);
    map.remove(handle(0));
    map.add(handle(TOMBSTONES_MAX), key);
    map.remove(handle(TOMBSTONES_MAX));
    expect([0, 1, 2, TOMBSTONES_MAX].map((value) => map.keyOf(handle(value)))).toEqual([
      key,
      null,
      key,
      key,
    ]);
    expect(map.size).toBe(0);
  });

  it("counts copies, and ignores the removal of what is not there", () => {
    const map = new HandleMap();
    map.add(handle(1), key, 2);
    map.remove(handle(1));
    map.remove(handle(2));
    expect(map.size).toBe(1);
    map.remove(handle(1));
    map.remove(handle(1));
    expect(map.size).toBe(0);
    expect(HANDLES_MAX).toBeGreaterThan(TOMBSTONES_MAX);
  });
  it("agrees with plain maps under any history", () => {
    const operation = fc.record({
      kind: fc.constantFrom("add", "add", "remove", "remove", "clear"),
      handle: fc.nat({ max: 12 }),
      copies: fc.integer({ min: 1, max: 3 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 400, size: "max" }), (operations) => {
        const map = new HandleMap();
        const held = new Map<number, number>();
        const keys = new Map<number, bigint>();
        for (const [step, { kind, handle: value, copies }] of operations.entries()) {
          const count = held.get(value) ?? 0;
          if (kind === "add") {
            const key = BigInt(step) << 33n;
            map.add(handle(value), blockKey(key), copies);
            if (count === 0) keys.set(value, key);
            held.set(value, count + copies);
          }
          if (kind === "remove") {
            map.remove(handle(value));
            held.set(value, Math.max(0, count - 1));
          }
          // Rare enough that queues of tombstones fill up between.
          if (kind === "clear" && copies === 3 && value === 0) {
            map.clear();
            held.clear();
            keys.clear();
          }
          expect(map.keyOf(handle(value))).toBe(keys.get(value) ?? null);
        }
        for (let value = 0; value < 13; value += 1) {
          expect(map.keyOf(handle(value))).toBe(keys.get(value) ?? null);
        }
        expect(map.size).toBe([...held.values()].filter((count) => count > 0).length);
      }),
      { numRuns: 200 },
    );
  });
});
