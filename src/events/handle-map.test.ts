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
});
