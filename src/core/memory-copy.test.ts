import { expect, it } from "vitest";
import { moduleMemory } from "../../test/harness/module-memory.ts";
import { sharedMemory } from "./file-wasm.ts";
import { MemoryCopy } from "./memory-copy.ts";

const PAGE_BYTES = 65_536;

it("copies keys from wherever they lie, as many as there is room for, and nothing beside them", () => {
  const known = moduleMemory();
  const sources = [
    new BigUint64Array(known.buffer, 24, 2000),
    new BigUint64Array(2000),
    new BigUint64Array(new ArrayBuffer(PAGE_BYTES), 8, 2000),
  ];
  for (const keys of sources) for (let at = 0; at < 2000; at += 1) keys[at] = BigInt(at + 1) << 40n;
  const to = sharedMemory(PAGE_BYTES);
  const all = new BigUint64Array(to.buffer);
  const copy = new MemoryCopy(to, new BigUint64Array(to.buffer, 80, 1500));
  // Each of them after each, because the last source is remembered.
  for (const source of [...sources, ...sources.toReversed()]) {
    for (const length of [0, 1, 3, 1499, 2000]) {
      all.fill(0n);
      const copied = Math.min(length, 1500);
      expect(copy.copy(source.subarray(5, 5 + length))).toBe(Math.min(copied, 1995));
      expect(all.subarray(10, 10 + copied)).toEqual(source.slice(5, 5 + copied));
      expect(all.subarray(0, 10).every((key) => key === 0n)).toBe(true);
      expect(all.subarray(10 + copied).every((key) => key === 0n)).toBe(true);
    }
  }
});
