import { describe, expect, it } from "vitest";
import { BlockChain } from "./block-chain.ts";
import { BlockHasher, PLAIN_IDENTITY } from "./block-hash.ts";
import type { EngineFact } from "./engine-facts.ts";
import { EventFaults } from "./faults.ts";
import type { MessageFrames } from "./message-damage.ts";
import { seqFrame } from "./seq-frame.ts";

const PAYLOAD = Buffer.from("0123456789");

/** Faults with their way out: what was sent, by sequence number. */
function setUp(seed = 1): { faults: EventFaults; sent: MessageFrames[]; seqs: () => number[] } {
  const faults = new EventFaults(seed);
  const sent: MessageFrames[] = [];
  faults.attach((frames) => sent.push(frames));
  const seqs = (): number[] =>
    sent.map(([, seq]) => Number(Buffer.from(seq ?? []).readBigUInt64BE()));
  return { faults, sent, seqs };
}

function pass(faults: EventFaults, from: number, to: number): void {
  for (let seq = from; seq <= to; seq++) {
    faults.pass([Buffer.from("topic"), seqFrame(seq), PAYLOAD]);
  }
}

describe("EventFaults", () => {
  it("lets everything pass as it is until a fault is switched on", () => {
    const { faults, sent, seqs } = setUp();
    pass(faults, 0, 3);
    expect(seqs()).toEqual([0, 1, 2, 3]);
    expect(sent[0]).toEqual([Buffer.from("topic"), seqFrame(0), PAYLOAD]);
    expect(faults.takeSeq(4)).toBe(4);
    const facts: EngineFact[] = [{ kind: "cleared" }];
    expect(faults.told(facts)).toBe(facts);
  });

  it("drops, doubles, swaps and holds the next messages, and no others", () => {
    const { faults, seqs } = setUp();
    faults.dropNext(2);
    pass(faults, 0, 2);
    faults.duplicateNext();
    pass(faults, 3, 4);
    faults.swapNext(2);
    pass(faults, 5, 9);
    faults.holdNext(2);
    pass(faults, 10, 12);
    expect(seqs()).toEqual([2, 3, 3, 4, 6, 5, 8, 7, 9, 12]);
    faults.release();
    pass(faults, 13, 13);
    expect(seqs().slice(-3)).toEqual([10, 11, 13]);
    expect(faults.counts).toEqual({ dropped: 2, duplicated: 1, swapped: 2, held: 2, damaged: 0 });
  });

  it("holds everything until it is cleared, a message that waits for its swap included", () => {
    const { faults, seqs } = setUp();
    faults.swapNext();
    pass(faults, 0, 0);
    expect(seqs()).toEqual([]);
    faults.holdNext(Infinity);
    pass(faults, 1, 3);
    expect(seqs()).toEqual([]);
    faults.clear();
    expect(seqs()).toEqual([1, 2, 3, 0]);
  });

  it("drops a share of the messages, the same ones for the same seed", () => {
    const runs = [7, 7, 8].map((seed) => {
      const { faults, seqs } = setUp(seed);
      faults.set({ dropShare: 0.3 });
      pass(faults, 0, 999);
      return seqs();
    });
    expect(runs[0]).toEqual(runs[1]);
    expect(runs[0]).not.toEqual(runs[2]);
    expect(runs[0]?.length).toBeGreaterThan(600);
    expect(runs[0]?.length).toBeLessThan(800);
  });

  it("falls silent and speaks again", () => {
    const { faults, seqs } = setUp();
    faults.set({ isSilent: true });
    pass(faults, 0, 4);
    faults.set({ isSilent: false });
    pass(faults, 5, 5);
    expect(seqs()).toEqual([5]);
  });

  it("damages payloads and frames, and leaves the number readable", () => {
    const { faults, sent, seqs } = setUp();
    faults.truncateNext();
    pass(faults, 0, 0);
    faults.garbageNext();
    pass(faults, 1, 1);
    faults.wrongFramesNext();
    pass(faults, 2, 2);
    faults.wrongFramesNext(1, 4);
    pass(faults, 3, 4);
    expect(seqs()).toEqual([0, 1, 2, 3, 4]);
    expect(sent.map((frames) => frames.length)).toEqual([3, 3, 2, 4, 3]);
    expect(sent[0]?.[2]).toEqual(PAYLOAD.subarray(0, 5));
    expect(sent[1]?.[2]).toHaveLength(PAYLOAD.length);
    expect(Buffer.from(sent[1]?.[2] ?? [])).not.toEqual(PAYLOAD);
    expect(sent[4]?.[2]).toBe(PAYLOAD);
  });

  it("gives the next batch an earlier number, and counts on from there", () => {
    const { faults } = setUp();
    faults.regressTo(2);
    expect([faults.takeSeq(9), faults.takeSeq(3)]).toEqual([2, 3]);
  });

  it("lets the engine tell removals too many and events of no version", () => {
    const { faults } = setUp();
    const chain = new BlockChain(new BlockHasher({ blockSizeTokens: 2, seed: "test" }), {
      identity: PLAIN_IDENTITY,
      prompt: Uint32Array.from([1, 2]),
      outputTokensMax: 0,
    });
    faults.set({ isRemovalDoubled: true, isUnknownRemoved: true, hasUnknownEvents: true });
    const kinds = faults
      .told([{ kind: "cleared" }, { kind: "removed", chain, depth: 0 }])
      .map(({ kind }) => kind);
    expect(kinds).toEqual(["removed_unknown", "cleared", "removed", "removed", "unknown_event"]);
  });
});
