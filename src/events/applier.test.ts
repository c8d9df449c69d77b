import { describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../../test/harness/recording-meter.ts";
import { blockKey, endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { BLOCK_SIZES_MAX } from "../indexer/holder-state.ts";
import { Residency } from "../indexer/residency.ts";
import type { Tier } from "../tiers/tier.ts";
import { Applier } from "./applier.ts";
import type { KeyedBatch, KeyedEvent, LossReason } from "./keyed-batch.ts";

const endpoint = endpointId("10.0.0.1:8000");
const holder: Holder = { endpointId: endpoint, rank: 0 };
const otherRank: Holder = { endpointId: endpoint, rank: 1 };

interface Parts {
  readonly applier: Applier;
  readonly residency: Residency;
  readonly index: MemoryIndex;
  readonly meter: RecordingMeter;
}

function parts(entriesMax = 100): Parts {
  const index = new MemoryIndex();
  const residency = new Residency({ index, entriesMax });
  const meter = recordingMeter();
  const applier = new Applier({ residency, clock: nodeClock, log: silentLog, meter });
  return { applier, residency, index, meter };
}

const batch = (seq: number, events: readonly KeyedEvent[] = [], more = {}): KeyedBatch => ({
  ...{ holder, model: "m", epoch: 1, seq, engineMs: 0, events },
  ...more,
});

/** Blocks whose key is their handle plus 100. */
const stored = (handles: readonly number[], tier: Tier = "gpu"): KeyedEvent => ({
  type: "stored",
  tier,
  handles: BigUint64Array.from(handles, BigInt),
  keys: BigUint64Array.from(handles, (handle) => BigInt(handle + 100)),
  blockSizeTokens: 16,
});
const removed = (handles: readonly number[], tier: Tier = "gpu"): KeyedEvent => ({
  type: "removed",
  tier,
  handles: BigUint64Array.from(handles, BigInt),
});
const tiersOf = (index: MemoryIndex, handle: number): string[] =>
  index.residency(blockKey(BigInt(handle + 100))).map(({ tier }) => tier);
const refusedFor = (meter: RecordingMeter, reason: string): number =>
  meter.total("kvatlas_events_refused_total", { reason });

describe("sizes of a holder's blocks", () => {
  it("are all kept, so that what came with the one before is still found", () => {
    const { applier, residency } = parts();
    applier.accept(batch(0, [{ ...stored([1]), blockSizeTokens: 4 } as KeyedEvent]));
    applier.accept(batch(1, [{ ...stored([2]), blockSizeTokens: 2 } as KeyedEvent]));
    expect(residency.blockSizes()).toEqual(new Set([4, 2]));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "EXACT", blockSizesTokens: [4, 2] });
    applier.accept(batch(0, [stored([3])], { epoch: 2 }));
    expect(residency.blockSizes()).toEqual(new Set([16]));
  });

  it("are refused beyond BLOCK_SIZES_MAX, counted, and never leave the holder EXACT", () => {
    const { applier, residency, meter, index } = parts();
    const sizes = Array.from({ length: BLOCK_SIZES_MAX + 1 }, (_, at) => at + 1);
    for (const [seq, size] of sizes.entries()) {
      const event = { ...stored([seq]), blockSizeTokens: size } as KeyedEvent;
      applier.accept(batch(seq, [event]));
    }
    expect(residency.blockSizes()).toEqual(new Set(sizes.slice(0, -1)));
    const degraded = { state: "DEGRADED", reason: "block-sizes-full" };
    expect(residency.cursorOf(holder)).toMatchObject(degraded);
    expect(refusedFor(meter, "block-sizes-full")).toBe(1);
    expect([0, BLOCK_SIZES_MAX].map((handle) => tiersOf(index, handle))).toEqual([["gpu"], []]);
  });
});

describe("what a relay says by itself after a batch", () => {
  it("is applied, changes nothing when said twice, and moves no cursor", () => {
    const { applier, residency, index, meter } = parts();
    applier.accept(batch(0, [stored([1, 2], "cpu")], { engineMs: 1000 }));
    const cursor = residency.cursorOf(holder);
    const end = batch(0, [{ type: "aside" }, removed([1], "cpu")], { engineMs: 1500 });
    applier.accept(end);
    applier.accept(end);
    expect([1, 2].map((handle) => tiersOf(index, handle))).toEqual([[], ["cpu"]]);
    expect(residency.cursorOf(holder)).toEqual(cursor);
    expect(refusedFor(meter, "duplicate")).toBe(0);
    applier.accept(batch(0, [{ type: "aside" }, removed([2], "cpu")], { engineMs: 1000 }));
    applier.accept(batch(0, [stored([3])], { engineMs: 2000 }));
    expect(refusedFor(meter, "duplicate")).toBe(2);
    expect([2, 3].map((handle) => tiersOf(index, handle))).toEqual([["cpu"], []]);
  });
});

describe("a holder's state", () => {
  it("is DEGRADED(resync) from a start anew until the engine's first message is told again", () => {
    const { applier, residency, meter } = parts();
    applier.accept(batch(0, [stored([1])]));
    const resync: KeyedEvent = { type: "lost", reason: "resync" };
    applier.accept(batch(-1, [resync], { epoch: 2 }));
    const place = { epoch: 2, state: "DEGRADED", reason: "resync" };
    expect(residency.cursorOf(holder)).toMatchObject({ ...place, seq: -1 });
    expect(residency.blocksOf(holder)).toBe(0);
    applier.accept(batch(0, [stored([1])], { epoch: 2 }));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "EXACT", reason: null, epoch: 2 });
    applier.accept(batch(0, [resync], { epoch: 3 }));
    applier.accept(batch(1, [stored([2])], { epoch: 3 }));
    expect(residency.cursorOf(holder)).toMatchObject({ ...place, seq: 1, epoch: 3 });
    expect(meter.total("kvatlas_events_restarts_total")).toBe(0);
  });

  it("is not EXACT after the log was truncated, until the next message shows nothing missing", () => {
    const { applier, residency } = parts();
    applier.accept(batch(0));
    applier.accept(batch(0, [], { holder: otherRank }));
    applier.truncated();
    const truncated = { state: "DEGRADED", reason: "log-truncated" };
    expect(residency.cursorOf(holder)).toMatchObject(truncated);
    applier.accept(batch(1));
    applier.accept(batch(2, [], { holder: otherRank }));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "EXACT", reason: null });
    expect(residency.cursorOf(otherRank)).toMatchObject({ state: "DEGRADED", reason: "gap" });
  });

  it("stays what it was when the log is truncated, where something was missing before", () => {
    const { applier, residency } = parts();
    applier.accept(batch(0));
    applier.accept(batch(2));
    applier.truncated();
    applier.accept(batch(3));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "DEGRADED", reason: "gap" });
  });

  it("has what was told once in a life, and nothing of the life before", () => {
    const { applier, residency } = parts();
    applier.accept(batch(0, [{ type: "ignored-group", group: 3 }]));
    applier.accept(batch(1, [{ type: "lane", name: "CPU" }]));
    applier.accept(batch(2));
    expect(residency.cursorOf(holder)).toMatchObject({ ignoredGroups: [3], lanes: ["CPU"] });
    applier.accept(batch(0, [], { epoch: 2 }));
    expect(residency.cursorOf(holder)).toMatchObject({ ignoredGroups: [], lanes: [] });
  });

  it("takes no word aside for the message that was lost before it", () => {
    const { applier, residency } = parts();
    applier.accept(batch(0));
    applier.accept(batch(1, [{ type: "aside" }], { engineMs: 5000 }));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "DEGRADED", reason: "gap" });
  });

  it("shows what an engine can tell again before what it cannot, and what is expected last", () => {
    const { applier, residency } = parts();
    const lost = (reason: LossReason): KeyedEvent => ({ type: "lost", reason });
    const reasons = [
      [batch(0, [lost("no-removals")]), "no-removals"],
      [batch(1, [lost("skipped-event")]), "skipped-event"],
      [batch(2, [lost("no-removals")]), "skipped-event"],
      [batch(4, [lost("no-removals"), lost("length-mismatch")]), "gap"],
      [batch(5, [lost("unknown-parent"), lost("token-pairs")]), "gap"],
    ] as const;
    for (const [each, reason] of reasons) {
      applier.accept(each);
      expect(residency.cursorOf(holder)).toMatchObject({ state: "DEGRADED", reason });
    }
  });

  it("is DEGRADED(catching-up) from word of what was said behind to the first batch without", () => {
    const { applier, residency, index } = parts();
    const at = (seq: number, isNote: boolean, events: readonly KeyedEvent[] = []): KeyedBatch =>
      batch(seq, [{ type: "catching-up", isNote }, ...events]);
    const states = (...batches: KeyedBatch[]): (string | null)[] =>
      batches.map((each) => {
        applier.accept(each);
        const cursor = residency.cursorOf(holder);
        return `${cursor?.seq} ${cursor?.reason ?? cursor?.state}`;
      });
    // A life that has said nothing yet is not known from its beginning.
    expect(states(at(-1, true), at(0, false), batch(1, [stored([1])]))).toEqual([
      ...["-1 catching-up", "0 catching-up", "1 EXACT"],
    ]);
    expect(states(at(1, true), at(1, true), at(0, true), batch(1))).toEqual(
      Array(4).fill("1 catching-up"),
    );
    expect(tiersOf(index, 1)).toEqual(["gpu"]);
    expect(states(at(2, false, [stored([2])]), batch(3))).toEqual(["2 catching-up", "3 EXACT"]);
    // Word of a message that did not arrive, which comes late, is a gap.
    expect(states(at(4, true), batch(4), batch(5))).toEqual(["4 gap", "4 gap", "5 gap"]);
    expect(states(at(5, true), batch(6))).toEqual(["5 gap", "6 gap"]);
  });

  it("is not EXACT of a new life before its first message, nor by word alone", () => {
    const { applier, residency } = parts();
    applier.accept(batch(0, [stored([1])]));
    applier.accept(batch(-1, [{ type: "catching-up", isNote: true }], { epoch: 2 }));
    expect(residency.cursorOf(holder)).toMatchObject({ epoch: 2, reason: "catching-up" });
    applier.accept(batch(0, [{ type: "catching-up", isNote: true }], { epoch: 3 }));
    expect(residency.cursorOf(holder)).toMatchObject({ epoch: 3, reason: "late-subscription" });
  });

  it("is EXACT from the first message of a life on", () => {
    const { applier, residency } = parts();
    applier.accept(batch(0, [stored([1])]));
    applier.accept(batch(1, [removed([1])]));
    expect(residency.cursorOf(holder)).toEqual({
      ...{
        state: "EXACT",
        reason: null,
        epoch: 1,
        seq: 1,
        engineMs: 0,
        blockSizesTokens: [16],
        model: "m",
        ignoredGroups: [],
        lanes: [],
      },
    });
  });

  it("is DEGRADED when the first message seen is not the first of the life", () => {
    const { applier, residency } = parts();
    applier.accept(batch(3, [stored([1])]));
    expect(residency.cursorOf(holder)).toMatchObject({
      state: "DEGRADED",
      reason: "late-subscription",
    });
    applier.accept(batch(0, [], { epoch: 2 }));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "EXACT", epoch: 2 });
    applier.accept(batch(4, [], { epoch: 3 }));
    expect(residency.cursorOf(holder)).toMatchObject({ reason: "late-subscription", epoch: 3 });
  });

  it("is DEGRADED after a gap until the next life, and what is held stays", () => {
    const { applier, residency, index, meter } = parts();
    applier.accept(batch(0, [stored([1])]));
    applier.accept(batch(4, [stored([2])]));
    applier.accept(batch(5));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "DEGRADED", reason: "gap", seq: 5 });
    expect(meter.total("kvatlas_events_gaps_total", { endpoint })).toBe(1);
    expect(meter.total("kvatlas_events_missed_messages_total", { endpoint })).toBe(3);
    expect([tiersOf(index, 1), tiersOf(index, 2)]).toEqual([["gpu"], ["gpu"]]);
  });

  it("is DEGRADED by a loss, and the other events of the batch are applied", () => {
    const { applier, residency, index, meter } = parts();
    const lost: KeyedEvent = { type: "lost", reason: "unknown-handle" };
    applier.accept(batch(0, [stored([1]), lost, stored([2])]));
    expect(residency.cursorOf(holder)).toMatchObject({ reason: "unknown-handle" });
    expect([tiersOf(index, 1), tiersOf(index, 2)]).toEqual([["gpu"], ["gpu"]]);
    expect(refusedFor(meter, "unknown-handle")).toBe(1);
  });

  it("is DEGRADED as long as batches say that stores wait, which hides no other cause", () => {
    const { applier, residency } = parts();
    const waits: KeyedEvent = { type: "lost", reason: "unknown-parent" };
    const stateAfter = (next: KeyedBatch): unknown => {
      applier.accept(next);
      return residency.cursorOf(holder)?.reason;
    };
    expect(stateAfter(batch(0, [waits]))).toBe("unknown-parent");
    expect(stateAfter(batch(1, [waits]))).toBe("unknown-parent");
    expect(stateAfter(batch(2, [stored([1])]))).toBeNull();
    expect(stateAfter(batch(5, [waits]))).toBe("gap");
    expect(stateAfter(batch(6))).toBe("gap");
  });

  it("is kept for each rank by itself", () => {
    const { applier, residency, index } = parts();
    applier.accept(batch(0, [stored([1])]));
    applier.accept(batch(7, [stored([1])], { holder: otherRank }));
    applier.accept(batch(0, [], { holder: otherRank, epoch: 2 }));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "EXACT", seq: 0, epoch: 1 });
    expect(tiersOf(index, 1)).toEqual(["gpu"]);
  });
});

describe("messages that were there before", () => {
  it("are dropped and counted, whether repeated or of an earlier life", () => {
    const { applier, residency, index, meter } = parts();
    applier.accept(batch(0, [stored([1])]));
    applier.accept(batch(1, [stored([2])]));
    expect(applier.accept(batch(1, [stored([2])]))).toBe(true);
    applier.accept(batch(0, [stored([3])]));
    expect(refusedFor(meter, "duplicate")).toBe(2);
    expect(tiersOf(index, 3)).toEqual([]);
    applier.accept(batch(0, [stored([4])], { epoch: 2 }));
    applier.accept(batch(2, [stored([5])]));
    expect(refusedFor(meter, "fenced-epoch")).toBe(1);
    expect([1, 2, 4, 5].map((handle) => tiersOf(index, handle))).toEqual([[], [], ["gpu"], []]);
    expect(residency.cursorOf(holder)).toMatchObject({ epoch: 2, seq: 0 });
  });
});

it("rows that a relay names mean nothing once a message of it was dropped", () => {
  const { applier, residency } = parts();
  const at = (event: KeyedEvent, row: number): KeyedEvent =>
    ({ ...event, rows: Uint32Array.of(row) }) as KeyedEvent;
  applier.accept(batch(0, [at(stored([1]), 0)]));
  applier.accept(batch(0, [at(removed([1]), 0)]));
  applier.accept(batch(1, [at(stored([1]), 1)]));
  expect([...residency.records(holder)]).toMatchObject([[1n, { copies: [2, 0, 0, 0] }]]);
});

describe("what starts anew", () => {
  it("is a new life, in every tier", () => {
    const { applier, index, meter } = parts();
    applier.accept(batch(0, [stored([1]), stored([1], "cpu"), stored([2], "nvme")]));
    applier.accept(batch(0, [stored([3])], { epoch: 2 }));
    expect(index.stats().entriesByTier).toEqual({ gpu: 1, cpu: 0, nvme: 0, shared: 0 });
    expect(meter.total("kvatlas_events_restarts_total", { endpoint })).toBe(1);
  });

  it("is another model, whose keys are others: nothing is EXACT that began before", () => {
    const { applier, residency, index } = parts();
    applier.accept(batch(0, [stored([1])]));
    applier.accept(batch(1, [stored([2])], { model: "n" }));
    expect([tiersOf(index, 1), tiersOf(index, 2)]).toEqual([[], ["gpu"]]);
    expect(residency.cursorOf(holder)).toMatchObject({ state: "DEGRADED", model: "n" });
  });

  it("is a cleared cache: no tier is trusted, for its event does not say which was meant", () => {
    const { applier, residency, index, meter } = parts();
    applier.accept(
      batch(0, [stored([1, 2]), stored([1], "cpu"), { type: "cleared" }, stored([3])]),
    );
    expect([1, 2, 3].map((handle) => tiersOf(index, handle))).toEqual([[], [], ["gpu"]]);
    applier.accept(batch(1, [removed([1], "cpu")]));
    expect(refusedFor(meter, "unknown-removal")).toBe(1);
    expect(residency.cursorOf(holder)).toMatchObject({
      ...{ state: "DEGRADED", reason: "lower-tiers", seq: 1 },
    });
  });

  it("leaves a holder EXACT when only its GPU had been seen", () => {
    const { applier, residency } = parts();
    applier.accept(batch(0, [stored([1, 2]), { type: "cleared" }, stored([3])]));
    expect(residency.cursorOf(holder)).toMatchObject({ state: "EXACT", seq: 0 });
  });
});

describe("the limit of entries", () => {
  it("refuses what is over it, counts it, and says index-full; nothing else is lost", () => {
    const { applier, residency, index, meter } = parts(3);
    applier.accept(batch(0, [stored([1, 2, 3, 4, 5])]));
    expect(refusedFor(meter, "index-full")).toBe(2);
    expect(residency.cursorOf(holder)).toMatchObject({ state: "DEGRADED", reason: "index-full" });
    applier.accept(batch(1, [removed([1, 4]), stored([6])]));
    expect([1, 2, 3, 4, 5, 6].map((handle) => tiersOf(index, handle).length)).toEqual([
      ...[0, 1, 1, 0, 0, 1],
    ]);
    expect(refusedFor(meter, "unknown-removal")).toBe(1);
  });
});
