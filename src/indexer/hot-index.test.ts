import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { apply, historyChains, nextWrite } from "../../test/harness/index-history.ts";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { moduleMemory } from "../../test/harness/module-memory.ts";
import { type BlockKey, blockKey, endpointId, type Holder, holderName } from "../core/ids.ts";
import { seededRandom } from "../core/random.ts";
import { TIERS } from "../tiers/tier.ts";
import { blockIndexContract } from "./block-index.contract.ts";
import type { BlockIndex, PrefixMatch } from "./block-index.ts";
import { SHARED, WANTED } from "./evictor.ts";
import { HotIndex } from "./hot-index.ts";
import { TableReader } from "./table-reader.ts";

blockIndexContract(() => new HotIndex());
describe("read by another instance, with keys that lie in a module's memory", () =>
  blockIndexContract(() => readElsewhere(new HotIndex())));

const holders = Array.from({ length: 12 }, (_, position): Holder => {
  return { endpointId: endpointId(`10.0.0.${position >> 1}:8000`), rank: position & 1 };
});
/** Two chains that share their first blocks, as prompts with one system prompt do. */
const keyOf = (chain: number, depth: number): BlockKey =>
  blockKey(BigInt(depth + (depth < 10 ? 0 : 1000 * chain)) * 0x9e37_79b9_7f4a_7c15n);
const promptOf = (chain: number, blocks: number): BigUint64Array =>
  BigUint64Array.from({ length: blocks }, (_, depth) => keyOf(chain, depth));

describe("hot index", () => {
  it("answers as the plain index does, after any history of runs of blocks", () => {
    const operation = fc.record({
      kind: fc.constantFrom("store", "store", "remove", "hole"),
      holder: fc.nat({ max: holders.length - 1 }),
      tier: fc.constantFrom("gpu", "gpu", ...TIERS),
      chain: fc.nat({ max: 2 }),
      start: fc.nat({ max: 60 }),
      length: fc.nat({ max: 40 }),
      isBackwards: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60, size: "max" }), (operations) => {
        const hot = new HotIndex();
        const plain = new MemoryIndex();
        for (const { kind, holder, tier, chain, start, length, isBackwards } of operations) {
          const from = kind === "store" && holder % 3 > 0 ? 0 : start;
          for (let step = 0; step < (kind === "hole" ? 1 : length); step += 1) {
            const key = keyOf(chain, isBackwards ? from + length - step : from + step);
            // A new object each time, as decoded batches bring them.
            const at: Holder = { ...(holders[holder] ?? never()) };
            const write = kind === "store" ? "store" : "remove";
            hot[write](at, tier, key);
            plain[write](at, tier, key);
          }
        }
        for (const chain of [0, 1, 2]) {
          for (const blocks of [0, 1, 9, 100]) {
            const prompt = promptOf(chain, blocks);
            expect(inOrder(hot.prefix(prompt))).toEqual(inOrder(plain.prefix(prompt)));
          }
          for (let depth = 0; depth < 100; depth += 1) {
            expect(hot.residency(keyOf(chain, depth))).toEqual(
              plain.residency(keyOf(chain, depth)),
            );
          }
        }
        expect(hot.stats()).toEqual(plain.stats());
      }),
      { numRuns: 200 },
    );
  });

  it("answers as the plain index does while sets of holders come and go by the thousand", () => {
    const hot = new HotIndex();
    const plain = new MemoryIndex();
    // Each number stands for its own set of 12 holders' bits; all 4,096 sets occur, twice over.
    const both = (write: "store" | "remove", set: number, depth: number): void => {
      for (const [bit, holder] of holders.entries()) {
        if ((set & (1 << bit)) === 0) continue;
        hot[write](holder, "gpu", keyOf(0, depth));
        plain[write](holder, "gpu", keyOf(0, depth));
      }
    };
    for (let round = 0; round < 8192; round += 1) {
      const depth = round % 32;
      if (round >= 32) both("remove", (round - 32) & 4095, depth);
      both("store", round & 4095, depth);
      if (round % 64 === 0)
        expect(hot.match(promptOf(0, 32))).toEqual(plain.match(promptOf(0, 32)));
    }
    expect(hot.stats()).toEqual(plain.stats());
  });
});

describe("slots of holders", () => {
  const holderNumber = (number: number): Holder => ({
    endpointId: endpointId(`10.0.0.1:${1 + (number % 60_000)}`),
    rank: Math.floor(number / 60_000),
  });
  /** Of wasm/hot-table/layout.ts. */
  const HOLDERS_MAX = 16_384;

  it("go from holders without entries to others, however many there are in a life", () => {
    const index = new HotIndex(1000);
    const reader = new TableReader(index.share());
    const stays = holderNumber(0);
    index.store(stays, "gpu", keyOf(0, 0));
    for (let number = 1; number < 3 * HOLDERS_MAX; number += 1) {
      const holder = holderNumber(number);
      expect(index.storeMany(holder, "cpu", promptOf(0, 2))).toBe(0);
      if (number % 1000 === 0) {
        expect(reader.match(promptOf(0, 2))).toMatchObject([
          { holder: stays, blocks: 1 },
          { holder, blocks: 2 },
        ]);
      }
      index.removeMany(holder, "cpu", promptOf(0, 2));
    }
    expect(index.refused).toEqual({ table: 0, holders: 0 });
    // One that was away comes back under its own name.
    index.store(holderNumber(5), "gpu", keyOf(0, 0));
    expect(reader.residency(keyOf(0, 0))).toHaveLength(2);
    expect(reader.residency(keyOf(0, 0))).toContainEqual({ holder: holderNumber(5), tier: "gpu" });
  });

  it("are never read under another's name, while one is given again and again", async () => {
    const index = new HotIndex(1000);
    const others = promptOf(1, 64).subarray(10);
    for (let number = 0; number < HOLDERS_MAX - 1; number += 1) {
      index.storeMany(holderNumber(number), "gpu", others.subarray(number % 50, (number % 50) + 1));
    }
    // Each holder has as many blocks as its rank says, or none: whatever else is read is another's.
    const worker = new Worker(new URL("../../test/harness/slot-reader.ts", import.meta.url), {
      workerData: { handle: index.share(), prompt: promptOf(0, 8) },
    });
    await new Promise((resolve) => worker.once("message", resolve));
    const report = new Promise<{ answers: number; names: number; wrong: string[] }>((resolve) =>
      worker.once("message", resolve),
    );
    for (let number = 0; number < 300_000; number += 1) {
      const rank = number % 8;
      const holder = { endpointId: endpointId(`10.${number % 251}.1.1:8000`), rank };
      const keys = promptOf(0, rank + 1);
      index.storeMany(holder, "gpu", keys);
      index.removeMany(holder, "gpu", keys);
    }
    worker.postMessage("end");
    const { answers, names, wrong } = await report;
    expect(wrong).toEqual([]);
    expect(names).toBeGreaterThan(100);
    expect(answers).toBeGreaterThan(1000);
    await worker.terminate();
  });

  it("are refused and counted where all have entries, until one of these has none", () => {
    const index = new HotIndex(1000);
    for (let number = 0; number < HOLDERS_MAX; number += 1) {
      expect(index.store(holderNumber(number), "gpu", keyOf(0, number % 64))).toBe(0);
    }
    const late = holderNumber(HOLDERS_MAX);
    expect(index.storeMany(late, "gpu", promptOf(0, 3))).toBe(3);
    expect(index.refused).toEqual({ table: 0, holders: 3 });
    index.remove(holderNumber(70), "gpu", keyOf(0, 6));
    expect(index.storeMany(late, "gpu", promptOf(0, 3))).toBe(0);
    expect(index.match(promptOf(0, 3))).toContainEqual(
      expect.objectContaining({ holder: late, blocks: 3 }),
    );
  });
});

it("says how many blocks it refuses when it is full", () => {
  const index = new HotIndex(64);
  const [podA = never()] = holders;
  expect(index.storeMany(podA, "gpu", promptOf(0, 60))).toBe(0);
  expect(index.storeMany(podA, "gpu", promptOf(1, 20).subarray(10))).toBe(6);
  expect(index.refused).toEqual({ table: 6, holders: 0 });
  expect(index.stats().blocks).toBe(64);
});

it("tells what speaks against an eviction as a plain model does, and forgets no match of late", () => {
  const EPOCHS = 3;
  const random = seededRandom(5);
  const chains = historyChains();
  const anyChain = (): BigUint64Array =>
    chains[Math.floor(random.next() * chains.length)] ?? new BigUint64Array(0);
  const [hot, plain] = [new HotIndex(), new MemoryIndex()];
  const seen = { shared: 0, wanted: 0, unwanted: 0 };
  for (let step = 1; step <= 6000; step += 1) {
    const write = nextWrite(random, chains);
    const asked = anyChain();
    for (const index of [hot, plain]) {
      apply(index, write);
      if (step % 5 === 0) index.match(asked);
      if (step % 400 === 0) index.beginEpoch();
    }
    if (step % 50 > 0) continue;
    for (const key of anyChain()) {
      const expected = plain.standing(key, EPOCHS);
      const standing = hot.standing(key, EPOCHS);
      expect(standing & SHARED).toBe(expected & SHARED);
      // A page tells for all its blocks.
      if ((expected & WANTED) > 0) expect(standing & WANTED).toBe(WANTED);
      seen.shared += expected & SHARED;
      seen.wanted += (expected & WANTED) / WANTED;
      if ((standing & WANTED) === 0 && plain.residency(blockKey(key)).length > 0)
        seen.unwanted += 1;
    }
  }
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(100);
});

/** An index that is written here and read as another thread does, on keys as decisions have them. */
function readElsewhere(index: HotIndex): BlockIndex {
  const reader = new TableReader(index.share());
  const memory = moduleMemory();
  const passing = (keys: BigUint64Array): BigUint64Array => {
    const inModule = new BigUint64Array(memory.buffer, 16, keys.length);
    inModule.set(keys);
    return inModule;
  };
  return {
    store: (holder, tier, key) => index.store(holder, tier, key),
    remove: (holder, tier, key) => index.remove(holder, tier, key),
    storeMany: (holder, tier, keys, parent) => index.storeMany(holder, tier, keys, parent),
    removeMany: (holder, tier, keys) => index.removeMany(holder, tier, keys),
    get repeated() {
      return index.repeated;
    },
    match: (keys) => reader.match(passing(keys)),
    prefix: (keys) => reader.prefix(passing(keys)),
    residency: (key) => reader.residency(key),
    stats: () => reader.stats(),
  };
}

/** Holders of what can be reached, in the order of their names. */
function inOrder(prefix: PrefixMatch): PrefixMatch {
  const reachable = prefix.reachable.toSorted((a, b) =>
    holderName(a.holder) < holderName(b.holder) ? -1 : 1,
  );
  return { ...prefix, reachable };
}

function never(): Holder {
  throw new Error("no such holder");
}
