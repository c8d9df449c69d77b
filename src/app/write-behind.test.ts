import { describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../../test/harness/recording-meter.ts";
import { SteppedClock } from "../../test/harness/stepped-clock.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import type { Flush } from "../indexer/flush-rounds.ts";
import { StoreError } from "../indexer/lmdb-store-thread.ts";
import { Residency } from "../indexer/residency.ts";
import type { StoreProblem } from "../indexer/store-problem.ts";
import { STORE_LAG_MS_MAX, WriteBehind } from "./write-behind.ts";

const FLUSH_MS = 100;
const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };

/** Lets what was promised come about. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function pass(clock: SteppedClock, ms: number): Promise<void> {
  clock.advance(ms);
  await settled();
}

/** Takes flushes as a disk would that fails or waits when it is told to. */
class ScriptedStore {
  readonly written: Flush[] = [];
  problem: StoreProblem | null = null;
  renewed = 0;
  isClosed = false;
  wait: Promise<void> = Promise.resolve();

  async write(flush: Flush): Promise<ArrayBuffer> {
    await this.wait;
    if (this.problem !== null) throw new StoreError(this.problem, "as told");
    this.written.push(flush);
    return new ArrayBuffer(0);
  }

  renew(): Promise<void> {
    this.renewed += 1;
    this.problem = null;
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}

interface Parts {
  readonly clock: SteppedClock;
  readonly store: ScriptedStore;
  readonly residency: Residency;
  readonly meter: RecordingMeter;
  readonly behind: WriteBehind;
  readonly add: (block: number) => void;
}

function parts(): Parts {
  const clock = new SteppedClock();
  const store = new ScriptedStore();
  const meter = recordingMeter();
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1000 });
  const deps = { clock, store, meter, residency, log: silentLog, flushMs: FLUSH_MS };
  const behind = new WriteBehind(deps);
  const add = (block: number): void => {
    const words = BigUint64Array.of(BigInt(block));
    residency.stored(podA, "gpu", words, words);
  };
  return { clock, store, residency, meter, behind, add };
}

describe("the write-behind", () => {
  it("writes what changed once an interval, and nothing when nothing did", async () => {
    const { clock, store, behind, add } = parts();
    await pass(clock, FLUSH_MS);
    expect(store.written).toHaveLength(0);
    add(1);
    expect(behind.lagMs).toBe(0);
    await pass(clock, FLUSH_MS);
    expect(store.written).toMatchObject([{ holders: [{ blocks: 1 }], isRoundEnd: true }]);
    await pass(clock, FLUSH_MS);
    expect(store.written).toHaveLength(1);
    add(2);
    await behind.stop();
    expect(store.written).toHaveLength(2);
    expect(store.isClosed).toBe(true);
  });

  it.each(["disk-full", "map-full", "unwritable", "failed"] as const)(
    "tries again after %s, ever more seldom, and says why it does not write",
    async (problem) => {
      const { clock, store, residency, meter, behind, add } = parts();
      store.problem = problem;
      add(1);
      await pass(clock, FLUSH_MS);
      expect([behind.problem, behind.detail]).toEqual([problem, `not written: ${problem}`]);
      expect(meter.value("kvatlas_store_problem", { problem })).toBe(1);
      expect(residency.dirtyPages).toBe(1);
      await pass(clock, FLUSH_MS);
      expect(meter.total("kvatlas_store_flushes_total", { outcome: "failed" })).toBe(1);
      await pass(clock, FLUSH_MS);
      expect(meter.total("kvatlas_store_flushes_total", { outcome: "failed" })).toBe(2);
      store.problem = null;
      await pass(clock, 4 * FLUSH_MS);
      expect(store.written).toHaveLength(1);
      expect([behind.problem, behind.detail]).toEqual([null, "written behind"]);
      await behind.stop();
    },
  );

  it("looks whether a store that another process has taken is left again", async () => {
    const { clock, store, behind, add } = parts();
    store.problem = "taken";
    add(1);
    await pass(clock, FLUSH_MS);
    for (let pause = 0; pause < 20; pause += 1) await pass(clock, 10_000);
    expect(store.written).toEqual([]);
    store.problem = null;
    await pass(clock, 10_000);
    expect(store.written).toHaveLength(1);
    await behind.stop();
    expect(store.isClosed).toBe(true);
  });

  it("begins a fresh store where LMDB finds its own damaged, and writes everything to it", async () => {
    const { clock, store, behind, add } = parts();
    add(1);
    await pass(clock, FLUSH_MS);
    store.problem = "damaged";
    add(2);
    await pass(clock, FLUSH_MS);
    expect([store.renewed, behind.problem]).toEqual([1, "damaged"]);
    await pass(clock, 2 * FLUSH_MS);
    expect(store.written.at(-1)).toMatchObject({
      holders: [{ blocks: 2, pages: 1, changed: [0] }],
    });
    expect(behind.problem).toBeNull();
    await behind.stop();
  });

  it("says that a slow store is behind, and writes what came meanwhile at once", async () => {
    const { clock, store, meter, behind, add } = parts();
    let release = (): void => {};
    store.wait = new Promise((resolve) => {
      release = resolve;
    });
    add(1);
    await pass(clock, FLUSH_MS);
    add(2);
    await pass(clock, STORE_LAG_MS_MAX);
    expect(behind.lagMs).toBeGreaterThan(STORE_LAG_MS_MAX);
    store.wait = Promise.resolve();
    release();
    await settled();
    // Late, and therefore followed by the next without a pause; that one is in time again.
    expect(meter.total("kvatlas_store_flushes_total", { outcome: "late" })).toBe(1);
    expect(store.written.map(({ holders }) => holders[0]?.blocks)).toEqual([1, 2]);
    expect(behind.lagMs).toBe(0);
    await behind.stop();
  });
});
