import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { endpointId } from "../core/ids.ts";
import { ASSUMED_BLOCKS_DEFAULT, AssumedBlocks } from "./assumed-blocks.ts";

const pod = endpointId("10.0.0.1:8000");
const keysOf = (...keys: number[]): BigUint64Array => BigUint64Array.from(keys, BigInt);

describe("assumed blocks", () => {
  it("hold the leading blocks of an answered prompt at its endpoint, and for their life only", () => {
    const assumed = new AssumedBlocks({ lifeMs: 1000 });
    assumed.assume(pod, { keys: keysOf(1, 2, 3), gpuBlocks: null, nowMs: 0 });
    expect(assumed.leadingBlocks(pod, keysOf(1, 2, 9, 3), 999)).toBe(2);
    expect(assumed.leadingBlocks(endpointId("10.0.0.2:8000"), keysOf(1), 0)).toBe(0);
    expect(assumed.leadingBlocks(pod, keysOf(1, 2, 3), 1000)).toBe(0);
    assumed.assume(pod, { keys: keysOf(1), gpuBlocks: null, nowMs: 900 });
    assumed.expire(1000);
    expect(assumed.blocksOf(pod)).toBe(1);
    expect(assumed.leadingBlocks(pod, keysOf(1, 2), 1000)).toBe(1);
    assumed.expire(1900);
    expect(assumed.endpoints()).toEqual([]);
  });

  it("are no more than the engine's pool; the last blocks of the oldest prompt go first", () => {
    const assumed = new AssumedBlocks({ lifeMs: 1000 });
    assumed.assume(pod, { keys: keysOf(1, 2, 3), gpuBlocks: 4, nowMs: 0 });
    assumed.assume(pod, { keys: keysOf(4, 5), gpuBlocks: 4, nowMs: 1 });
    expect(assumed.leadingBlocks(pod, keysOf(1, 2, 3), 1)).toBe(2);
    expect(assumed.leadingBlocks(pod, keysOf(4, 5), 1)).toBe(2);
    const long = BigUint64Array.from({ length: 20_000 }, (_, i) => BigInt(i));
    assumed.assume(pod, { keys: long, gpuBlocks: null, nowMs: 2 });
    expect(assumed.blocksOf(pod)).toBe(ASSUMED_BLOCKS_DEFAULT);
    expect(assumed.leadingBlocks(pod, long, 2)).toBe(ASSUMED_BLOCKS_DEFAULT);
    assumed.forget(pod);
    expect(assumed.leadingBlocks(pod, long, 2)).toBe(0);
  });

  it("claim nothing that was not assumed within its life", () => {
    const step = fc.record({
      keys: fc.uniqueArray(fc.integer({ min: 0, max: 12 }), { maxLength: 5 }),
      waitMs: fc.integer({ min: 0, max: 700 }),
    });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 30 }),
        fc.integer({ min: 1, max: 8 }),
        (steps, max) => {
          const assumed = new AssumedBlocks({ lifeMs: 1000 });
          const newest = new Map<number, number>();
          let nowMs = 0;
          for (const { keys, waitMs } of steps) {
            nowMs += waitMs;
            assumed.assume(pod, { keys: keysOf(...keys), gpuBlocks: max, nowMs });
            for (const key of keys) newest.set(key, nowMs);
            expect(assumed.blocksOf(pod)).toBeLessThanOrEqual(max);
            for (let key = 0; key <= 12; key += 1) {
              const isYoung = nowMs - (newest.get(key) ?? -1000) < 1000;
              if (!isYoung) expect(assumed.leadingBlocks(pod, keysOf(key), nowMs)).toBe(0);
            }
          }
        },
      ),
    );
  });
});
