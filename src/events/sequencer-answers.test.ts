/** What answers show, and do not show, of an engine's life. */
import { describe, expect, it } from "vitest";
import { type EngineMessage, HELD_MESSAGES_MAX } from "./sequence.ts";
import { Sequencer } from "./sequencer.ts";

/** Message `seq` of an engine's life; lives follow each other in time. */
const message = (seq: number, life = 1): EngineMessage => ({
  seq,
  batch: { ts: life * 1000 + seq, rank: 0, events: [] },
});

/** Last delivery of an answer, as [epoch, seq, has the engine said more]. */
function answered(sequencer: Sequencer, said: readonly EngineMessage[]): unknown {
  const steps = [...said.map((each) => sequencer.replayed(each)), sequencer.replayEnded()];
  const last = steps.flatMap(({ deliveries }) => deliveries).at(-1);
  return last === undefined ? null : [last.epoch, last.seq, last.isCatchingUp];
}

function heardTo(seq: number, life = 1): Sequencer {
  const sequencer = new Sequencer({ canReplay: true, cursor: null });
  sequencer.connected();
  answered(
    sequencer,
    Array.from({ length: seq + 1 }, (_, each) => message(each, life)),
  );
  return sequencer;
}

describe.each([
  ["healing", (sequencer: Sequencer) => sequencer.heal()],
  ["a start anew", (sequencer: Sequencer) => sequencer.startAnew({ isAsking: true })],
])("an answer to %s", (_, ask) => {
  it("is not all while it ends before what had been heard, however often it is asked for", () => {
    const sequencer = heardTo(2);
    for (const epoch of [2, 3]) {
      expect(ask(sequencer).replayFrom).toBe(0);
      expect(answered(sequencer, [message(0), message(1)])).toEqual([epoch, 1, true]);
    }
    ask(sequencer);
    expect(answered(sequencer, [message(0), message(1), message(2)])).toEqual([4, 2, false]);
  });

  it("is all once the live socket has told the rest", () => {
    const sequencer = heardTo(2);
    ask(sequencer);
    answered(sequencer, [message(0), message(1)]);
    const [told] = sequencer.live(message(2)).deliveries;
    expect(told).toMatchObject({ epoch: 2, seq: 2, isCatchingUp: false });
  });

  it("owes nothing of a life that is over", () => {
    const sequencer = heardTo(2);
    ask(sequencer);
    expect(answered(sequencer, [message(0, 2)])).toEqual([2, 0, false]);
  });
});

it("an answer is no proof of what the live socket said before a message of that answer", () => {
  const sequencer = heardTo(3);
  expect(sequencer.connected().replayFrom).toBe(3);
  // Of the second life, while the engine is in its third and answers already.
  for (const seq of [0, 1]) sequencer.live(message(seq, 2));
  sequencer.replayed(message(3, 3));
  expect(sequencer.replayed(message(4, 3)).replayFrom).toBe(0);
  sequencer.live(message(2, 2));
  const steps = [3, 4].map((seq) => sequencer.replayed(message(seq, 3)));
  const { deliveries } = steps[1] ?? expect.fail();
  expect(deliveries.map(({ seq, isUnproven }) => [seq, isUnproven])).toEqual([
    ...[0, 1, 2].map((seq) => [seq, false]),
    [3, true],
  ]);
});

describe("what was shown and dropped", () => {
  it("is owed over another connection, until something as late is delivered", () => {
    const sequencer = heardTo(0);
    expect(sequencer.live(message(2)).replayFrom).toBe(0);
    expect(sequencer.connected().replayFrom).toBe(0);
    expect(answered(sequencer, [message(0), message(1)])).toEqual([1, 1, true]);
    const [told] = sequencer.live(message(2)).deliveries;
    expect(told).toMatchObject({ epoch: 1, seq: 2, isCatchingUp: false });
  });

  it("is owed where a life seems to be over, and its first words come late", () => {
    const sequencer = heardTo(2);
    sequencer.connected();
    expect(sequencer.replayEnded().replayFrom).toBe(0);
    sequencer.replayEnded();
    expect(sequencer.live(message(0)).deliveries).toMatchObject([{ seq: 0, isCatchingUp: true }]);
  });

  it("is not what another life says with the same number", () => {
    const sequencer = heardTo(2);
    sequencer.connected();
    // The second life's first message, and its connection is over before that is delivered.
    sequencer.live(message(0, 2));
    sequencer.connected();
    expect(sequencer.replayEnded().replayFrom).toBe(0);
    sequencer.replayEnded();
    expect(sequencer.live(message(0)).deliveries).toMatchObject([{ seq: 0, isCatchingUp: true }]);
  });

  it("is owed by its own life: a later number of another one is none of it", () => {
    const sequencer = heardTo(1, 3);
    sequencer.connected();
    expect(sequencer.replayEnded().replayFrom).toBe(0);
    sequencer.replayEnded();
    const late = [0, 1, 2].flatMap((seq) => sequencer.live(message(seq, 2)).deliveries);
    expect(late.map(({ seq, isCatchingUp }) => [seq, isCatchingUp])).toEqual([
      ...[0, 1, 2].map((seq) => [seq, true]),
    ]);
    expect(sequencer.live(message(3, 4)).deliveries).toMatchObject([{ isCatchingUp: false }]);
  });

  it("is owed by number where it could not be read, whichever life it is of", () => {
    const sequencer = new Sequencer({ canReplay: false, cursor: null });
    sequencer.live(message(0));
    sequencer.live({ seq: 2, batch: null });
    const next = [0, 1, 2].flatMap((seq) => sequencer.live(message(seq, 2)).deliveries);
    expect(next.map(({ seq, isCatchingUp }) => [seq, isCatchingUp])).toEqual([
      ...[0, 1].map((seq) => [seq, true]),
      [2, false],
    ]);
  });

  it("is owed where there was no room to hold it", () => {
    const sequencer = new Sequencer({ canReplay: true, cursor: null });
    sequencer.connected();
    for (let seq = 0; seq <= HELD_MESSAGES_MAX; seq += 1) sequencer.live(message(seq));
    const { deliveries } = sequencer.replayEnded();
    expect(deliveries).toHaveLength(HELD_MESSAGES_MAX);
    expect(deliveries.at(-1)?.isCatchingUp).toBe(true);
  });

  it("is not owed by a life that begins at an earlier time, as an answer shows it", () => {
    const sequencer = heardTo(2);
    sequencer.connected();
    expect(sequencer.replayed({ ...message(0, 0.5) }).deliveries).toEqual([]);
    expect(sequencer.replayEnded().replayFrom).toBe(0);
    expect(answered(sequencer, [message(0, 0.5)])).toEqual([2, 0, false]);
  });
});
