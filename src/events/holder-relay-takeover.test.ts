import { describe, expect, it } from "vitest";
import {
  chain,
  keysIn,
  MODEL,
  newRelay,
  parent,
  relayAt,
  removed,
  stored,
  tokensOf,
} from "../../test/harness/relay-blocks.ts";
import type { HolderRelay } from "./holder-relay.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import type { KvEvent } from "./kv-event.ts";

describe("taking over from an earlier relay", () => {
  const published = (relay: HolderRelay, seq: number, ...events: KvEvent[]): KeyedBatch => {
    const batch = relayAt(relay, { seq }, ...events);
    if (batch === null) throw new Error("batch was dropped");
    return batch;
  };

  it("goes on with its handles, epoch and sequence from the log", () => {
    const earlier = newRelay();
    const relay = newRelay();
    relay.adopt(published(earlier, 0, stored([1, 2])));
    relay.adopt(published(earlier, 1, removed([2])));
    const batch = relayAt(relay, { seq: 2 }, stored([3], parent(2)));
    expect(batch).toMatchObject({ epoch: 1, seq: 2 });
    expect(keysIn(batch?.events[1])).toEqual([chain(1, 2, 3)[2]]);
  });

  it("goes on with what the store kept", () => {
    const relay = newRelay();
    relay.restoreCursor({
      ...{ state: "EXACT", reason: null, epoch: 5, seq: 7, engineMs: 7000 },
      ...{ blockSizesTokens: [2], model: MODEL, ignoredGroups: [1] },
    });
    const blocks = { handles: BigUint64Array.of(1n), keys: BigUint64Array.from(chain(1)) };
    relay.restoreHandles(blocks, Uint32Array.of(1));
    const ofGroup: KvEvent = { ...removed([1]), group: 1 } as KvEvent;
    const batch = relayAt(relay, { seq: 8 }, stored([2], parent(1)), ofGroup);
    expect(batch).toMatchObject({ epoch: 5, seq: 8 });
    // The engine may be in another life by now, at the same number.
    expect(batch?.events).toMatchObject([{ reason: "unproven-life" }, { type: "stored" }]);
    expect(keysIn(batch?.events[1])).toEqual([chain(1, 2)[1]]);
    expect(relayAt(relay, { seq: 0, ts: 100 })).toMatchObject({ epoch: 6 });
  });

  it("drops messages from the socket that the log had already", () => {
    const earlier = newRelay();
    const relay = newRelay();
    for (const block of [1, 2, 3]) relay.adopt(published(earlier, block, stored([block])));
    expect(relayAt(relay, { seq: 2 }, stored([2]))).toBeNull();
    expect(relayAt(relay, { seq: 3 }, stored([3]))).toBeNull();
    expect(relayAt(relay, { seq: 4 }, stored([4]))).toMatchObject({ epoch: 1, seq: 4 });
  });

  it("is not moved back by what the log repeats or by an earlier life", () => {
    const earlier = newRelay();
    const batches = [0, 1, 2].map((seq) => published(earlier, seq, stored([seq + 1])));
    const nextLife = relayAt(earlier, { seq: 0, ts: 100 }, stored([9]));
    const relay = newRelay();
    for (const batch of batches) relay.adopt(batch);
    for (const batch of batches.slice(0, 2)) relay.adopt(batch);
    expect(relayAt(relay, { seq: 2, ts: 50 })).toMatchObject({ epoch: 2 });
    if (nextLife !== null) relay.adopt(nextLife);
    for (const batch of batches) relay.adopt(batch);
    expect(relayAt(relay, { seq: 3, ts: 200 }, stored([4], parent(3)))).toMatchObject({
      epoch: 2,
      events: [{ reason: "unknown-parent" }],
    });
  });

  it("knows which keys removed blocks have claimed", () => {
    const earlier = newRelay();
    const first = published(earlier, 0, stored([1, 2]));
    const second = published(earlier, 1, removed([1]));
    const relay = newRelay();
    for (const batch of [first, second]) relay.adopt(batch);
    const salted = { handles: BigUint64Array.of(11n, 12n), tokens: tokensOf([1, 2]) };
    for (const each of [earlier, relay]) {
      const { events } = published(each, 2, stored([11, 12], salted));
      expect(events.slice(-2)).toMatchObject([
        { type: "ambiguous", keys: BigUint64Array.from(chain(1)) },
        { type: "stored", keys: BigUint64Array.from(chain(1, 2)) },
      ]);
    }
  });

  it("says of blocks that wait that an earlier one may have told of them, until they do not", () => {
    const relay = newRelay();
    relay.adopt(published(newRelay(), 0, stored([1])));
    const reasons = (seq: number, ...events: KvEvent[]): unknown[] =>
      published(relay, seq, ...events).events.flatMap((event) =>
        event.type === "lost" ? event.reason : [],
      );
    expect(reasons(1, stored([3], parent(2)))).toContain("uncounted-copies");
    // Nobody may have heard the one before.
    expect(reasons(2, stored([2], parent(1)))).toEqual(["uncounted-copies"]);
    expect(reasons(3, stored([4], parent(3)))).toEqual([]);
  });

  it("says that blocks wait which came behind a clear, and which nobody brings home", () => {
    const first = published(newRelay(), 0, { type: "cleared" }, stored([2], parent(1)));
    const relay = newRelay();
    relay.adopt(first);
    const batch = relayAt(relay, { seq: 1 }, stored([3]));
    expect(batch?.events).toContainEqual({ type: "lost", reason: "unknown-parent" });
  });

  it("does not know which salts and images were told", () => {
    const relay = newRelay();
    relay.adopt(published(newRelay(), 0, stored([1])));
    const lower = stored([2], { medium: "CPU", caveat: "no-identity" });
    const batch = relayAt(relay, { seq: 1 }, lower);
    expect(batch?.events).toContainEqual({ type: "lost", reason: "unknown-handle" });
  });

  it("does not take over keys of another model", () => {
    const relay = newRelay({ model: "other" });
    relay.adopt(published(newRelay(), 0, stored([1])));
    expect(relayAt(relay, { seq: 1 }, stored([2], parent(1)))).toMatchObject({
      epoch: 1,
      model: "other",
      events: [{ reason: "unproven-life" }, { reason: "unknown-parent" }],
    });
  });
});
