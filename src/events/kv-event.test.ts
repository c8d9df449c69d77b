import { describe, expect, it } from "vitest";
import { batchBytes, type KvEvent, MALFORMED_EVENT } from "./kv-event.ts";

const batch = (events: readonly KvEvent[]) => ({ ts: 1, rank: null, events });

describe("memory of a batch", () => {
  it("counts lists by their values, and events that say nothing by their place", () => {
    const empty = batchBytes(batch([]));
    const skipped = batchBytes(batch(new Array<KvEvent>(1000).fill(MALFORMED_EVENT)));
    expect(skipped - empty).toBe(8000);
    const handles = new BigUint64Array(1000);
    const removed: KvEvent = { type: "removed", handles, medium: null, group: null };
    expect(batchBytes(batch([removed])) - empty).toBeGreaterThan(8000);
  });
});
