import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { instantiateWasm } from "../core/file-wasm.ts";
import { engineKey } from "../core/ids.ts";
import { HandleMap, type KeyOrigin, TOMBSTONES_MAX } from "./handle-map.ts";
import { core, HANDLES } from "./relay-core.ts";

// Else no one could tell which handles share a bucket.
beforeAll(() => core.seedHashes(0n));

const handle = (value: number): ReturnType<typeof engineKey> => engineKey(BigInt(value));

/** The value whose hash in wasm/handle-map/layout.ts this is, which is a bijection while the seed is 0. */
function withHash(hash: bigint): bigint {
  const unmixed = (value: bigint): bigint =>
    BigInt.asUintN(64, value * inverseOf(0xd6e8_feb8_6659_fd93n));
  const shifted = (value: bigint): bigint => value ^ (value >> 32n);
  return shifted(unmixed(shifted(unmixed(hash))));
}

/** Of an odd number, modulo 2^64. */
function inverseOf(factor: bigint): bigint {
  let inverse = factor;
  for (let bits = 3; bits < 64; bits *= 2) {
    inverse = BigInt.asUintN(64, inverse * (2n - factor * inverse));
  }
  return inverse;
}

/** Adds blocks with one key; returns how many were. */
function add(
  map: HandleMap,
  handles: readonly number[],
  key = 1n,
  origin: KeyOrigin = "placed",
): number {
  const keys = BigUint64Array.from(handles, () => key);
  return map.addAll({ handles: BigUint64Array.from(handles, BigInt), keys }, origin);
}

function remove(map: HandleMap, ...handles: readonly number[]): void {
  map.removeAll(BigUint64Array.from(handles, BigInt));
}

describe("handle map", () => {
  it("forgets the oldest of the removed handles first, and a handle stored again not at all", () => {
    const map = new HandleMap();
    for (let value = 0; value < TOMBSTONES_MAX; value += 1) {
      add(map, [value]);
      remove(map, value);
    }
    add(map, [0]);
    remove(map, 0);
    add(map, [TOMBSTONES_MAX]);
    remove(map, TOMBSTONES_MAX);
    expect([0, 1, 2, TOMBSTONES_MAX].map((value) => map.keyOf(handle(value)))).toEqual([
      1n,
      null,
      1n,
      1n,
    ]);
    expect(map.size).toBe(0);
  });

  it("counts copies exactly however many, and ignores the removal of what is not there", () => {
    const map = new HandleMap();
    for (let copies = 0; copies < 300; copies += 1) add(map, [1]);
    const block = { handles: BigUint64Array.of(handle(1)), keys: BigUint64Array.of(1n) };
    map.restore(block, Uint32Array.of(700));
    for (let copies = 1; copies < 1000; copies += 1) remove(map, 1);
    remove(map, 2);
    expect([map.size, map.has(handle(1))]).toEqual([1, true]);
    remove(map, 1);
    remove(map, 1);
    expect([map.size, map.has(handle(1))]).toEqual([0, false]);
    expect(map.keyOf(handle(1))).toBe(1n);
  });

  it("tells of keys that another handle claims after a removed one, as long as that is remembered", () => {
    const map = new HandleMap();
    add(map, [1], 7n, "claimed");
    add(map, [2], 7n, "claimed");
    expect(map.takeShared()).toEqual([]);
    remove(map, 1, 2);
    add(map, [1, 2], 7n, "claimed");
    expect(map.takeShared()).toEqual([]);
    remove(map, 2);
    add(map, [3], 7n, "claimed");
    add(map, [4], 8n, "claimed");
    expect(map.takeShared()).toEqual([7n]);
    expect(map.takeShared()).toEqual([]);
    for (let value = 10; value < 9 + TOMBSTONES_MAX; value += 1) {
      add(map, [value], BigInt(value));
      remove(map, value);
    }
    add(map, [5], 7n, "placed");
    expect(map.takeShared()).toEqual([]);
    add(map, [6], 7n, "claimed");
    expect(map.takeShared()).toEqual([7n]);
    add(map, [9], 9n);
    remove(map, 9);
    add(map, [8], 7n, "claimed");
    expect(map.takeShared()).toEqual([]);
  });

  it("keeps the key of a plain block that is known under another one", () => {
    const map = new HandleMap();
    add(map, [1], 5n);
    expect(add(map, [1], 7n, "claimed")).toBe(0);
    expect(add(map, [1], 5n, "claimed")).toBe(1);
    remove(map, 1);
    remove(map, 1);
    expect(add(map, [1], 7n, "claimed")).toBe(0);
    expect(add(map, [1], 7n, "placed")).toBe(1);
    expect(map.keyOf(handle(1))).toBe(7n);
  });

  it("puts blocks back in their rows where these were never used, and names them", () => {
    const rowsOf = (map: HandleMap, handles: number[]): number[] => [
      ...map.rowsOf(BigUint64Array.from(handles, BigInt)),
    ];
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat({ max: 3000 }), { maxLength: 200 }), (numbers) => {
        const rows = Uint32Array.from(numbers).sort();
        const map = new HandleMap();
        const words = BigUint64Array.from(rows, (row) => BigInt(row) + 5000n);
        map.restore({ handles: words, keys: words, rows }, new Uint32Array(rows.length).fill(2));
        const handles = Array.from(rows, (row) => row + 5000);
        expect(rowsOf(map, handles)).toEqual([...rows]);
        const added = Array.from({ length: 300 }, (_, at) => at);
        add(map, added);
        expect(new Set([...rows, ...rowsOf(map, added)]).size).toBe(rows.length + 300);
        remove(map, ...handles);
        expect(map.size).toBe(rows.length + 300);
        remove(map, ...handles);
        expect(map.size).toBe(300);
        map.restore({ handles: words, keys: words, rows }, new Uint32Array(rows.length).fill(1));
        expect(map.size).toBe(rows.length + 300);
      }),
    );
  });

  it("agrees with plain maps under any history, also when it grows", () => {
    const operation = fc.record({
      kind: fc.constantFrom("add", "add", "remove", "remove", "flood", "clear"),
      handle: fc.nat({ max: 12 }),
      copies: fc.integer({ min: 1, max: 3 }),
      identity: fc.constantFrom("placed" as const, "claimed" as const),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 400, size: "max" }), (operations) => {
        const map = new HandleMap();
        const held = new Map<number, number>();
        const keys = new Map<number, bigint>();
        const count = (value: number): number => held.get(value) ?? 0;
        for (const [step, { kind, handle: value, copies, identity }] of operations.entries()) {
          if (kind === "add") {
            const key = BigInt(step) << 33n;
            const isKept = identity === "claimed" && keys.has(value);
            expect(add(map, [value], key, identity)).toBe(isKept ? 0 : 1);
            if (!isKept && count(value) === 0) keys.set(value, key);
            held.set(value, count(value) + (isKept ? 0 : 1));
          }
          if (kind === "remove") {
            remove(map, value);
            held.set(value, Math.max(0, count(value) - 1));
          }
          // Rows of many others, which are freed in another order only when tombstones are.
          if (kind === "flood" && copies === 3) {
            const others = Array.from({ length: 300 }, (_, at) => 1000 * step + 100 + at);
            add(map, others, BigInt(step));
            for (const other of others.slice(100)) held.set(other, 1);
            for (const other of others) keys.set(other, BigInt(step));
            remove(map, ...others.slice(0, 100).reverse());
          }
          // Rare enough that the map fills up between.
          if (kind === "clear" && copies === 3 && value === 0) {
            map.clear();
            held.clear();
            keys.clear();
          }
          expect(map.keyOf(handle(value))).toBe(keys.get(value) ?? null);
        }
        for (const value of [...keys.keys(), ...Array(13).keys()]) {
          expect(map.keyOf(handle(value))).toBe(keys.get(value) ?? null);
          expect(map.has(handle(value))).toBe(count(value) > 0);
        }
        expect(map.size).toBe([...held.values()].filter((copies) => copies > 0).length);
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    ["all at one place", 0x8000_0000n],
    ["all at the last place", 0xffff_ffffn],
  ])("agrees with plain maps where handles and keys are hostile, %s", (_, home) => {
    const hostile = (number: number): bigint => withHash((home << 32n) | (BigInt(number) << 6n));
    const map = new HandleMap();
    const held = new Set<number>();
    const known = new Set<number>();
    let state = 1;
    for (let step = 0; step < 6000; step += 1) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      const number = (state >>> 8) % 700;
      const handles = BigUint64Array.of(hostile(number));
      const key = hostile(number + 1000);
      if (held.has(number)) {
        map.removeAll(handles);
        held.delete(number);
      } else {
        expect(map.addAll({ handles, keys: BigUint64Array.of(key) }, "claimed")).toBe(1);
        held.add(number);
        known.add(number);
      }
      const asked = (state >>> 4) % 700;
      const wanted = known.has(asked) ? hostile(asked + 1000) : null;
      expect(map.keyOf(engineKey(hostile(asked)))).toBe(wanted);
      expect(map.has(engineKey(hostile(asked)))).toBe(held.has(asked));
    }
    expect(map.takeShared()).toEqual([]);
    expect(map.size).toBe(held.size);
  });

  it("takes blocks of more than one call, each of them in its row", () => {
    const map = new HandleMap();
    const handles = BigUint64Array.from({ length: 10_000 }, (_, at) => BigInt(at * at));
    const rows = new Uint32Array(handles.length);
    expect(map.addAll({ handles, keys: handles, rows }, "claimed")).toBe(handles.length);
    expect(new Set(rows).size).toBe(handles.length);
    expect(map.rowsOf(handles)).toEqual(rows);
    expect(map.removeAll(handles)).toEqual(rows);
    expect(map.size).toBe(0);
    const others = handles.map((each) => each + 2n);
    expect(map.addAll({ handles: others, keys: handles }, "claimed")).toBe(handles.length);
    expect(map.takeShared().length).toBe(handles.length);
  });

  it("frees the oldest tombstones under churn, whatever was taken back between", () => {
    const map = new HandleMap();
    /** Values in the order of their removals, and the newest removal of each. */
    const removals: number[] = [];
    const removedAt = new Map<number, number>();
    let forgotten = 0;
    let state = 1;
    for (let step = 0; step < 4 * TOMBSTONES_MAX; step += 1) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      // Every third is one that may be a tombstone still.
      const value = step % 3 === 0 ? step - (state % (step + 1)) : step;
      add(map, [value], BigInt(value), "claimed");
      remove(map, value);
      removedAt.set(value, removals.push(value) - 1);
      for (; removedAt.size > TOMBSTONES_MAX; forgotten += 1) {
        const oldest = removals[forgotten] ?? -1;
        if (removedAt.get(oldest) === forgotten) removedAt.delete(oldest);
      }
    }
    expect(map.size).toBe(0);
    const wrong: number[] = [];
    for (let value = 0; value < 4 * TOMBSTONES_MAX; value += 7) {
      const expected = removedAt.has(value) ? BigInt(value) : null;
      if (map.keyOf(handle(value)) !== expected) wrong.push(value);
    }
    expect(wrong).toEqual([]);
  });
});

it("lies elsewhere with each seed: no engine can name handles that all share a bucket", () => {
  const memoryOf = (seed: bigint): Buffer => {
    const fresh = instantiateWasm<typeof core>("relay-core");
    fresh.seedHashes(seed);
    const map = fresh.create();
    new BigUint64Array(fresh.memory.buffer).set([1n, 2n, 3n, 4n], HANDLES);
    expect(fresh.add(map, 4, false)).toBe(4);
    return Buffer.from(fresh.memory.buffer);
  };
  const differing = (a: Buffer, b: Buffer): number =>
    a.reduce((n, byte, at) => n + Number(byte !== b[at]), 0);
  // Beside the seed itself, the slots of four handles.
  expect(memoryOf(1n)).toEqual(memoryOf(1n));
  expect(differing(memoryOf(1n), memoryOf(2n << 40n))).toBeGreaterThan(8);
});
