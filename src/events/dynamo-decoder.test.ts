import { describe, expect, it } from "vitest";
import { jsonPayload, msgpackPayload } from "../../test/harness/event-samples.ts";
import { decodeDynamoBatch } from "./dynamo-decoder.ts";

const blocks = [{ block_hash: 2n ** 64n - 1n, tokens_hash: 5n, mm_extra_info: null }];
const stored = { stored: { parent_hash: 9, blocks } };

describe("router events", () => {
  it.each([
    ["device", "device"],
    ["host_pinned", "CPU_PINNED"],
    ["disk", "disk"],
    ["external", "external"],
  ])("of tier %s name blocks by their handles alone", (tier, medium) => {
    const event = { event_id: 3, data: stored, dp_rank: 2 };
    expect(
      decodeDynamoBatch(msgpackPayload({ worker_id: 1, storage_tier: tier, event })),
    ).toMatchObject({
      value: {
        ts: 0,
        rank: 2,
        events: [
          {
            type: "stored",
            handles: BigUint64Array.of(2n ** 64n - 1n),
            parent: 9n,
            blockSizeTokens: 0,
            medium,
          },
        ],
      },
    });
  });

  it("may be JSON, bare, or an array of one rank's", () => {
    const removed = '{"event_id":1,"data":{"removed":{"block_hashes":[18446744073709551615]}}}';
    const cleared = '{"event_id":2,"data":"cleared"}';
    expect(decodeDynamoBatch(jsonPayload(`[${removed},${cleared}]`))).toMatchObject({
      value: {
        rank: null,
        events: [
          { type: "removed", handles: BigUint64Array.of(2n ** 64n - 1n) },
          { type: "cleared" },
        ],
      },
    });
    const ranks = [0, 1].map((dp_rank) => ({ event: { data: "cleared", dp_rank } }));
    expect(decodeDynamoBatch(msgpackPayload(ranks))).toMatchObject({ reason: "malformed-batch" });
  });

  it("of unknown kinds are skipped", () => {
    const events = ["paused", { paused: {} }, 7].map((data) => ({ event: { data } }));
    expect(decodeDynamoBatch(msgpackPayload(events))).toMatchObject({
      value: {
        events: [
          { type: "skipped", reason: "unknown-tag" },
          { type: "skipped", reason: "unknown-tag" },
          { type: "skipped", reason: "malformed-event" },
        ],
      },
    });
  });
});
