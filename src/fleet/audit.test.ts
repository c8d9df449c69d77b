import { describe, expect, it } from "vitest";
import { endpointId } from "../core/ids.ts";
import { Audit, type AuditOutcome, type AuditSample } from "./audit.ts";

const pod = endpointId("10.0.0.1:8000");

function setUp(): { audit: Audit; outcomes: AuditOutcome[] } {
  const outcomes: AuditOutcome[] = [];
  const audit = new Audit({ onOutcome: (_, outcome) => outcomes.push(outcome) });
  return { audit, outcomes };
}

const released = { count: 0 };
function sample(predicted: number, delivered: number, isEvicted = false): AuditSample {
  return {
    ...{ endpointId: pod, inputTokens: 1000, predictedTokens: predicted, heldTokens: predicted },
    ...{ deliveredTokens: delivered, blockSizeTokens: 16, isEvicted: () => isEvicted },
    release: () => {
      released.count += 1;
    },
  };
}

/** Answers `count` requests at one moment and judges them; returns who is to be resynchronised. */
function judged(audit: Audit, count: number, each: AuditSample, atMs: number): string[] {
  for (let n = 0; n < count; n += 1) audit.answered(each, atMs);
  return audit.judge(atMs + 2000);
}

describe("audit", () => {
  it("judges a sample once its events had time to come, and gives its watch back", () => {
    const { audit, outcomes } = setUp();
    released.count = 0;
    audit.answered(sample(800, 0), 100);
    expect(audit.judge(2099)).toEqual([]);
    expect(outcomes).toEqual([]);
    audit.judge(2100);
    expect(outcomes).toEqual(["over"]);
    expect(released.count).toBe(1);
  });

  it("allows a block, and tells over, under and stale apart", () => {
    const { audit, outcomes } = setUp();
    const samples = [sample(816, 800), sample(817, 800), sample(0, 800), sample(800, 0, true)];
    for (const each of samples) audit.answered(each, 0);
    audit.judge(2000);
    expect(outcomes).toEqual(["exact", "over", "under", "stale"]);
    expect(audit.report(pod)).toMatchObject({ state: "pending", samples: 3 });
  });

  it("finds an endpoint that has less than was predicted, after enough samples and not before", () => {
    const { audit } = setUp();
    expect(judged(audit, 19, sample(800, 400), 0)).toEqual([]);
    expect(audit.report(pod)).toMatchObject({ state: "pending" });
    expect(audit.report(pod).overRatio).toBeCloseTo(0.4);
    expect(judged(audit, 1, sample(800, 400), 5000)).toEqual([pod]);
    expect(audit.report(pod)).toMatchObject({ state: "pending", samples: 0, resyncs: 1 });
  });

  it("never blames an endpoint whose blocks were evicted meanwhile, nor for a small excess", () => {
    const { audit } = setUp();
    expect(judged(audit, 500, sample(800, 0, true), 0)).toEqual([]);
    expect(judged(audit, 500, sample(800, 700), 5000)).toEqual([]);
    expect(audit.report(pod)).toMatchObject({ state: "ok", resyncs: 0 });
  });

  it("does not let requests without a prediction hide the excess of others", () => {
    const { audit } = setUp();
    judged(audit, 200, sample(0, 0), 0);
    expect(audit.report(pod).state).toBe("pending");
    expect(judged(audit, 20, sample(800, 400), 5000)).toEqual([pod]);
  });

  it("resynchronises at most once a cooldown, which doubles while it does not help", () => {
    const { audit } = setUp();
    const resyncs: number[] = [];
    for (let atMs = 0; atMs < 2_000_000; atMs += 10_000) {
      if (judged(audit, 20, sample(800, 0), atMs).length > 0) resyncs.push(atMs);
    }
    expect(resyncs).toEqual([0, 300_000, 900_000]);
    expect(audit.report(pod).resyncs).toBe(3);
  });

  it("counts the answers that a resynchronisation leaves without a judgement", () => {
    const { audit, outcomes } = setUp();
    released.count = 0;
    for (let n = 0; n < 20; n += 1) audit.answered(sample(800, 0), 0);
    // Too young to be judged when the others are.
    audit.answered(sample(800, 0), 1500);
    expect(audit.judge(2000)).toEqual([pod]);
    expect(outcomes).toEqual([...Array(20).fill("over"), "superseded"]);
    expect(released.count).toBe(21);
  });

  it("is unavailable where engines do not tell, and never resynchronises those", () => {
    const { audit } = setUp();
    for (let n = 0; n < 10; n += 1) audit.unreported(pod);
    expect(audit.judge(1_000_000)).toEqual([]);
    expect(audit.report(pod).state).toBe("unavailable");
    audit.answered(sample(800, 800), 0);
    expect(audit.report(pod).state).toBe("pending");
    audit.keep(new Set());
    expect(audit.report(pod)).toMatchObject({ state: "pending", samples: 0 });
  });
});
