import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Random, seededRandom } from "../core/random.ts";
import { HELD_SUM_BYTES_MAX, HeldBudget } from "./held-budget.ts";
import type { BlockRemoved } from "./kv-event.ts";
import type { Delivery, EngineMessage, SequenceCursor, SequencerStep } from "./sequence.ts";
import { HELD_BYTES_MAX } from "./sequence.ts";
import { REPLAY_ROUNDS_MAX, Sequencer } from "./sequencer.ts";

/** Message `seq` of an engine's life; lives follow each other in time. */
function message(seq: number, life = 1): EngineMessage {
  return { seq, batch: { ts: life * 1000 + seq, rank: 0, events: [] } };
}

const places = ({ deliveries }: SequencerStep): [number, number][] =>
  deliveries.map(({ epoch, seq }) => [epoch, seq]);

/** Those that say that more is to come, as [is it a note, seq]. */
const open = ({ deliveries }: SequencerStep): [boolean, number][] =>
  deliveries.filter((each) => each.isCatchingUp).map(({ isNote, seq }) => [isNote, seq]);

const cursorAt = (seq: number, life = 1): SequenceCursor => ({
  epoch: 1,
  seq,
  engineMs: (life * 1000 + seq) * 1000,
});

describe("sequencer without replay", () => {
  const fresh = (): Sequencer => new Sequencer({ canReplay: false, cursor: null });

  it("delivers in order, drops repeats, and lets a gap be seen", () => {
    const sequencer = fresh();
    expect(places(sequencer.connected())).toEqual([]);
    expect(places(sequencer.live(message(0)))).toEqual([[1, 0]]);
    expect(sequencer.live(message(0))).toMatchObject({ deliveries: [], drops: ["duplicate"] });
    expect(places(sequencer.live(message(1)))).toEqual([[1, 1]]);
    expect(places(sequencer.live(message(4)))).toEqual([[1, 4]]);
    expect(sequencer.live(message(3)).drops).toEqual(["duplicate"]);
    expect(places(sequencer.live(message(5)))).toEqual([[1, 5]]);
  });

  it("begins another epoch when the number goes back at a later time", () => {
    const sequencer = fresh();
    sequencer.live(message(0));
    sequencer.live(message(1));
    expect(places(sequencer.live(message(0, 2)))).toEqual([[2, 0]]);
    expect(places(sequencer.live(message(1, 2)))).toEqual([[2, 1]]);
    expect(sequencer.live(message(1, 1)).drops).toEqual(["duplicate"]);
    expect(places(sequencer.live({ seq: 2, batch: null }))).toEqual([[2, 2]]);
    expect(sequencer.live(message(2, 2)).drops).toEqual([]);
  });

  it("has more to come in a life that may have begun with what it could not read", () => {
    const sequencer = fresh();
    sequencer.live(message(0));
    sequencer.live({ seq: 1, batch: null });
    const begun = sequencer.live(message(0, 2));
    expect([places(begun), open(begun)]).toEqual([[[2, 0]], [[false, 0]]]);
    expect(open(sequencer.live(message(1, 2)))).toEqual([]);
  });
});

describe("sequencer with a replay that runs", () => {
  it("holds live messages up to a number of bytes, and none of a slab's", () => {
    const sequencer = new Sequencer({ canReplay: true, cursor: null });
    sequencer.connected();
    const slab = new BigUint64Array(1000);
    const removed = { type: "removed", handles: slab.subarray(1, 2), medium: null, group: null };
    const bytes = HELD_BYTES_MAX / 2;
    const batch = { ts: 1, rank: 0, events: [removed as BlockRemoved] };
    const drops = [0, 1, 2].map((seq) => sequencer.live({ seq, batch, bytes }).drops);
    expect(drops).toEqual([[], [], ["held-full"]]);
    const { deliveries } = sequencer.replayEnded();
    expect(deliveries.map(({ seq }) => seq)).toEqual([0, 1]);
    const [held] = deliveries[0]?.batch?.events ?? [];
    expect(held).toEqual(removed);
    expect((held as BlockRemoved).handles.buffer.byteLength).toBe(8);
  });
});

describe("sequencers of many holders", () => {
  it("hold no more together than a sum, and give it back when their replays end", () => {
    const budget = new HeldBudget();
    const holders = Array.from({ length: HELD_SUM_BYTES_MAX / HELD_BYTES_MAX + 1 }, () => {
      const heldShare = budget.share();
      const sequencer = new Sequencer({ canReplay: true, cursor: null, heldShare });
      sequencer.connected();
      return sequencer;
    });
    const held = (sequencer: Sequencer | undefined): boolean | undefined =>
      sequencer?.live({ ...message(0), bytes: HELD_BYTES_MAX }).drops.length === 0;
    const areHeld = holders.map(held);
    expect(areHeld.lastIndexOf(true)).toBe(holders.length - 2);
    expect(areHeld.at(-1)).toBe(false);
    holders[0]?.replayEnded();
    expect(held(holders.at(-1))).toBe(true);
  });
});

describe("sequencer without replay, connected again", () => {
  it("takes a number that does not go on for a new life, whatever the engine's clock says", () => {
    const sequencer = new Sequencer({ canReplay: false, cursor: null });
    sequencer.connected();
    sequencer.live(message(0, 9));
    sequencer.live(message(1, 9));
    expect(sequencer.live(message(1, 9)).drops).toEqual(["duplicate"]);
    sequencer.connected();
    expect(places(sequencer.live(message(0, 2)))).toEqual([[2, 0]]);
    expect(places(sequencer.live(message(1, 2)))).toEqual([[2, 1]]);
    expect(sequencer.live(message(0, 2)).drops).toEqual(["duplicate"]);
  });

  it("goes on where the number does", () => {
    const sequencer = new Sequencer({ canReplay: false, cursor: null });
    sequencer.connected();
    sequencer.live(message(0));
    sequencer.connected();
    expect(places(sequencer.live(message(1)))).toEqual([[1, 1]]);
  });
});

describe("sequencer with replay", () => {
  const at = (cursor: SequenceCursor | null): Sequencer =>
    new Sequencer({ canReplay: true, cursor });

  it.each([
    { said: "another message", heard: [message(0), message(1, 2)], unproven: [1] },
    { said: "the same message", heard: [message(0), message(1)], unproven: [] },
  ])("knows the life of an answer right behind what was heard by $said heard there", (given) => {
    const sequencer = at(null);
    sequencer.connected();
    for (const each of given.heard) sequencer.live(each);
    const steps = [1, 2].map((seq) => sequencer.replayed(message(seq)));
    const all = [...steps, sequencer.replayEnded()].flatMap(({ deliveries }) => deliveries);
    expect(all.slice(0, 3).map(({ seq }) => seq)).toEqual([0, 1, 2]);
    expect(all.flatMap(({ seq, isUnproven }) => (isUnproven ? seq : []))).toEqual(given.unproven);
  });

  it("asks for an engine's whole life before anything was read", () => {
    const sequencer = at(null);
    expect(sequencer.connected().replayFrom).toBe(0);
    expect(places(sequencer.live(message(3)))).toEqual([]);
    expect(places(sequencer.replayed(message(0)))).toEqual([]);
    expect(places(sequencer.replayed(message(1)))).toEqual([[1, 0]]);
    sequencer.replayed(message(2));
    expect(open(sequencer.replayed(message(3)))).toEqual([[false, 2]]);
    const step = sequencer.replayEnded();
    expect(step.drops).toEqual(["duplicate"]);
    expect([places(step), open(step)]).toEqual([[[1, 3]], []]);
    expect(places(sequencer.live(message(4)))).toEqual([[1, 4]]);
  });

  it("looks at the engine's life again when an answer that broke off is asked for again", () => {
    const sequencer = at(cursorAt(4));
    sequencer.connected();
    sequencer.replayed(message(4));
    sequencer.replayed(message(5));
    expect(places(sequencer.replayed(message(6)))).toEqual([[1, 5]]);
    expect(sequencer.replayBroke()).toBe(5);
    // Another life, whose buffer begins behind what was known of the former one.
    sequencer.replayed(message(6, 2));
    const step = sequencer.replayEnded();
    expect(step.deliveries).toMatchObject([{ epoch: 1, seq: 6, isUnproven: true }]);
  });

  it("does not forget what an answer had shown that broke off, and was not given again", () => {
    const sequencer = at(null);
    sequencer.connected();
    sequencer.replayed(message(2));
    sequencer.live(message(0));
    sequencer.live(message(1));
    expect(sequencer.replayBroke()).toBe(0);
    expect(places(sequencer.replayFailed())).toEqual([[1, 2]]);
  });

  it("takes an answer that begins right behind what it knows for that of any life", () => {
    const sequencer = at(null);
    sequencer.connected();
    sequencer.replayEnded();
    expect(places(sequencer.live(message(0)))).toEqual([[1, 0]]);
    expect(sequencer.heal().replayFrom).toBe(0);
    sequencer.replayed(message(1, 2));
    expect(sequencer.replayEnded().deliveries).toMatchObject([{ seq: 1, isUnproven: true }]);
  });

  it("heals a gap from the last message it knows, and goes on with what was held", () => {
    const sequencer = at(null);
    sequencer.connected();
    sequencer.replayed(message(0));
    sequencer.replayEnded();
    sequencer.live(message(1));
    const asked = sequencer.live(message(4));
    expect(asked.replayFrom).toBe(1);
    expect(open(asked)).toEqual([[true, 1]]);
    expect(places(sequencer.live(message(5)))).toEqual([]);
    sequencer.replayed(message(1));
    expect(places(sequencer.replayed(message(2)))).toEqual([]);
    expect(open(sequencer.replayed(message(3)))).toEqual([[false, 2]]);
    const ended = sequencer.replayEnded();
    expect(places(ended)).toEqual([3, 4, 5].map((seq) => [1, seq]));
    // All is there with the last one, and not before.
    expect(open(ended)).toEqual([3, 4].map((seq) => [false, seq]));
    expect(sequencer.isReplaying).toBe(false);
  });

  it("starts anew where the buffer does not reach back and nothing shows the same life", () => {
    const sequencer = at(cursorAt(10));
    expect(sequencer.connected().replayFrom).toBe(10);
    sequencer.replayed(message(15));
    expect(places(sequencer.replayed(message(16)))).toEqual([[2, 15]]);
    expect(places(sequencer.replayEnded())).toEqual([[2, 16]]);
    expect(places(sequencer.live(message(17)))).toEqual([[2, 17]]);
  });

  it("keeps the epoch where the buffer does not reach back on the same connection", () => {
    const sequencer = at(null);
    sequencer.connected();
    sequencer.replayEnded();
    sequencer.live(message(0));
    expect(sequencer.live(message(9)).replayFrom).toBe(0);
    sequencer.replayed(message(7));
    expect(places(sequencer.replayed(message(8)))).toEqual([[1, 7]]);
    expect(places(sequencer.replayEnded())).toEqual([
      [1, 8],
      [1, 9],
    ]);
  });

  it("says that it catches up with what was said while it was connecting", () => {
    const sequencer = at(cursorAt(10));
    expect(open(sequencer.connected())).toEqual([]);
    expect(open(sequencer.live(message(10)))).toEqual([]);
    expect(open(sequencer.live(message(11)))).toEqual([[true, 10]]);
    sequencer.replayed(message(10));
    expect(open(sequencer.replayed(message(11)))).toEqual([]);
    const ended = sequencer.replayEnded();
    expect([places(ended), open(ended)]).toEqual([[[1, 11]], []]);
  });

  it("leaves open what the engine did not tell to its end", () => {
    const sequencer = at(cursorAt(10));
    sequencer.connected();
    sequencer.replayed(message(10));
    sequencer.replayed(message(11));
    expect(open(sequencer.replayFailed())).toEqual([[false, 11]]);
    const next = sequencer.live(message(12));
    expect([places(next), open(next)]).toEqual([[[1, 12]], []]);
  });

  it("notices a restart while it was away, even when the new life is already longer", () => {
    const sequencer = at(cursorAt(10));
    sequencer.connected();
    sequencer.replayed(message(10, 2));
    const step = sequencer.replayEnded();
    expect(step).toMatchObject({ replayFrom: 0, deliveries: [{ epoch: 2, seq: -1 }] });
    expect(open(step)).toEqual([[true, -1]]);
    sequencer.replayed(message(0, 2));
    expect(open(sequencer.replayed(message(1, 2)))).toEqual([[false, 0]]);
  });

  it("notices a restart while it was away from an answer without its last message", () => {
    const sequencer = at(cursorAt(10));
    sequencer.connected();
    expect(sequencer.replayEnded()).toMatchObject({
      replayFrom: 0,
      deliveries: [{ epoch: 2, seq: -1 }],
    });
    expect(places(sequencer.replayEnded())).toEqual([]);
    expect(places(sequencer.live(message(0, 2)))).toEqual([[2, 0]]);
  });

  it("asks for the beginning of a new life that it missed", () => {
    const sequencer = at(null);
    sequencer.connected();
    sequencer.replayEnded();
    sequencer.live(message(0));
    sequencer.live(message(1));
    sequencer.live(message(2));
    const step = sequencer.live(message(1, 2));
    expect(step).toMatchObject({ replayFrom: 0, deliveries: [{ epoch: 2, seq: -1 }] });
    sequencer.replayed(message(0, 2));
    sequencer.replayed(message(1, 2));
    expect(open(sequencer.replayEnded())).toEqual([]);
    expect(places(sequencer.live(message(2, 2)))).toEqual([[2, 2]]);
  });

  it("leaves the gap when the engine does not answer", () => {
    const sequencer = at(cursorAt(10));
    sequencer.connected();
    sequencer.live(message(13));
    expect(places(sequencer.replayFailed())).toEqual([[1, 13]]);
    expect(places(sequencer.live(message(14)))).toEqual([[1, 14]]);
  });

  it("stops asking for what the engine never gives, and leaves the gap", () => {
    const sequencer = at(cursorAt(0));
    sequencer.connected();
    sequencer.live(message(5));
    sequencer.replayed(message(0));
    let step = sequencer.replayEnded();
    for (let round = 1; round < REPLAY_ROUNDS_MAX; round += 1) {
      expect(step.replayFrom).toBe(0);
      sequencer.replayed(message(0));
      step = sequencer.replayEnded();
    }
    expect(places(step)).toEqual([[1, 5]]);
    expect(step.replayFrom).toBeNull();
  });
});

/** An engine with a bounded replay buffer, and a live socket that loses, repeats and reorders. */
function runHistory(
  random: Random,
  bufferMessages: number,
): { ok: boolean; deliveries: Delivery[] } {
  const sequencer = new Sequencer({ canReplay: true, cursor: null });
  const deliveries: Delivery[] = [];
  let life = 1;
  let buffer: EngineMessage[] = [];
  let seqNext = 0;
  let replayFrom: number | null = null;
  const take = (step: SequencerStep): void => {
    deliveries.push(...step.deliveries);
    if (step.replayFrom !== null) replayFrom = step.replayFrom;
  };
  const publish = (): EngineMessage => {
    const said = message(seqNext, life);
    seqNext += 1;
    buffer = [...buffer, said].slice(-bufferMessages);
    return said;
  };
  /** Answers what was asked for; live messages come in between. */
  const replay = (isQuiet: boolean): void => {
    while (replayFrom !== null) {
      const from: number = replayFrom;
      replayFrom = null;
      for (const said of buffer.filter(({ seq }) => seq >= from)) {
        if (!isQuiet && random.next() < 0.2) take(sequencer.live(publish()));
        if (replayFrom === null) take(sequencer.replayed(said));
      }
      if (replayFrom === null) take(sequencer.replayEnded());
    }
  };
  take(sequencer.connected());
  for (let turn = 0; turn < 60; turn += 1) {
    if (random.next() < 0.05) {
      life += 1;
      seqNext = 0;
      buffer = [];
      take(sequencer.connected());
    }
    const said = publish();
    const fate = random.next();
    if (fate < 0.6) take(sequencer.live(said));
    else if (fate < 0.7) {
      take(sequencer.live(said));
      take(sequencer.live(said));
    } else if (fate < 0.8) {
      const later = publish();
      take(sequencer.live(later));
      take(sequencer.live(said));
    }
    if (random.next() < 0.5) replay(false);
  }
  // Healing: one message arrives, and the engine is asked until nothing is open.
  take(sequencer.live(publish()));
  replay(true);
  const last = deliveries.at(-1);
  const isWhole =
    last?.seq === seqNext - 1 &&
    !last.isCatchingUp &&
    last.engineMs === (life * 1000 + last.seq) * 1000;
  return { ok: isWhole && !sequencer.isReplaying, deliveries };
}

describe("sequencer, for any history of losses, repeats, reorders and restarts", () => {
  it("ends with the engine's last message, and is gapless within each epoch but for short buffers", () => {
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(3, 10, 1000), (seed, bufferMessages) => {
        const { ok, deliveries } = runHistory(seededRandom(seed), bufferMessages);
        expect(ok).toBe(true);
        for (const [position, { epoch, seq, engineMs, isNote }] of deliveries.entries()) {
          const before = deliveries[position - 1];
          if (before === undefined) continue;
          expect(epoch).toBeGreaterThanOrEqual(before.epoch);
          if (epoch !== before.epoch) continue;
          if (isNote) expect(seq).toBe(before.seq);
          else if (bufferMessages < 1000) expect(seq).toBeGreaterThan(before.seq);
          else expect(seq).toBe(before.seq + 1);
          // One epoch is one life.
          if (before.seq >= 0) {
            expect(Math.floor(engineMs / 1e6)).toBe(Math.floor(before.engineMs / 1e6));
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});
