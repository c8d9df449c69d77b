/**
 * Puts one holder's messages in order, and says when the engine has to be asked again.
 *
 * Pure. An engine counts its messages from 0 in each life and does not say that it restarted, so its own
 * time decides: a number that does not go on, said later, is a new life; not said later, it is a repeat.
 * A gap is healed by a replay that begins with the last message known: the answer shows whether the
 * engine still is in the same life. Where its buffer does not reach back, a gap stays; behind another
 * connection nothing shows the same life then: the holder starts anew (another epoch) from what there is.
 *
 * What is delivered says whether the engine is known to have said more: a replay's newest message is
 * kept back until the answer goes on or ends, so that the last delivery alone says that all is there.
 */
import { assert } from "../core/assert.ts";
import type { HeldShare } from "./held-budget.ts";
import { OwedMessage } from "./owed-message.ts";
import {
  askAgain,
  type EngineMessage,
  engineMsOf,
  heardBefore,
  hold,
  isHeard,
  isOfBefore,
  NOTHING_SAID,
  newReplay,
  ofAnswer,
  type Place,
  type Replay,
  type SequenceCursor,
  type SequencerStep,
} from "./sequence.ts";
import { StepOutbox } from "./step-outbox.ts";

/** Replays in a row for one gap; then the holder starts anew behind it. */
export const REPLAY_ROUNDS_MAX = 3;

export class Sequencer {
  readonly #canReplay: boolean;
  readonly #heldShare: HeldShare | null;
  #epochFirst: number;
  #cursor: SequenceCursor | null;
  #replay: Replay | null = null;
  #replayRounds = 0;
  #isConnected = false;
  /** The next live message is the first of another connection: a PUB socket repeats nothing. */
  #isReconnected = false;
  /** Since the cursor's message the engine was not listened to for a while. */
  #isUnproven = false;
  /** Time of the epoch's first message, ms; 0 when unknown. What was said before is another life's. */
  #epochStartMs = 0;
  /** The cursor's message could not be decoded: its time is that of an earlier one. */
  #isCursorUndecodable = false;
  readonly #owed = new OwedMessage();
  readonly #outbox = new StepOutbox();

  /** `epochFirst`: epoch of a holder of which nothing is known; default 1. */
  constructor(options: {
    readonly canReplay: boolean;
    readonly cursor: SequenceCursor | null;
    readonly epochFirst?: number;
    readonly heldShare?: HeldShare;
  }) {
    this.#canReplay = options.canReplay;
    this.#epochFirst = options.epochFirst ?? 1;
    this.#heldShare = options.heldShare ?? null;
    this.#cursor = options.cursor;
    this.#isUnproven = options.cursor !== null;
  }

  get isReplaying(): boolean {
    return this.#replay !== null;
  }

  /** Follows a message that an earlier relay of this holder delivered. False: it is known. */
  adopt({ epoch, seq, engineMs }: SequenceCursor): boolean {
    const known = this.#cursor;
    const isBehind =
      known !== null && (epoch < known.epoch || (epoch === known.epoch && seq <= known.seq));
    if (isBehind) return false;
    if (epoch !== known?.epoch) this.#epochStartMs = 0;
    this.#cursor = { epoch, seq, engineMs };
    this.#isUnproven = true;
    return true;
  }

  /**
   * The live socket is connected, for the first time or again: asks for what was said before, or
   * since. An engine that restarted always comes with a new connection.
   */
  connected(): SequencerStep {
    // What was held may be of the life before; what is still wanted of it the replay has.
    this.#isUnproven = this.#isUnproven || this.#isConnected;
    this.#owed.connected();
    const { newest = null, held = [] } = this.#replay ?? {};
    for (const each of newest === null ? held : [newest, ...held]) this.#owed.owe(each);
    if (this.#canReplay) this.#ask([]);
    else this.#isReconnected = this.#isConnected;
    this.#isConnected = true;
    return this.#step();
  }

  /**
   * Has the engine tell its whole life again, because something of it is missing. What is known stays
   * until the answer begins, and for good where the answer does not begin with the first message.
   */
  heal(): SequencerStep {
    if (this.#canReplay && this.#cursor !== null && this.#replay === null) {
      this.#replay = newReplay({ isLifeOpen: this.#cursor.seq >= 0, isHealing: true });
      this.#outbox.askFrom(0);
    }
    return this.#step();
  }

  /**
   * Gives up what is known: another epoch, told again from the engine's first message where it can
   * be asked. The first delivery, without events, begins it.
   */
  startAnew(options: { readonly isAsking: boolean }): SequencerStep {
    const cursor = this.#cursor;
    if (cursor === null) return this.#step();
    this.#replayRounds = 0;
    if (this.#canReplay && options.isAsking) this.#beginLife(this.#replay?.held ?? []);
    else {
      this.#replay = null;
      // Live messages go on behind the cursor, whose time still bounds what is a repeat.
      const batch = { ts: cursor.engineMs / 1000, rank: null, events: [] };
      this.#deliver({ seq: cursor.seq, batch }, this.#epochNext(), { isNote: true });
    }
    return this.#step();
  }

  /** Readers know this epoch: the next one is later. */
  overtake(epoch: number): void {
    if (this.#cursor === null) this.#epochFirst = Math.max(this.#epochFirst, epoch + 1);
    else this.#cursor = { ...this.#cursor, epoch: Math.max(this.#cursor.epoch, epoch) };
  }

  /** Takes a message of the live socket. */
  live(message: EngineMessage): SequencerStep {
    if (this.#replay === null) this.#placeLive(message);
    else this.#hold(message);
    return this.#step();
  }

  /** Takes a message of the replay that runs. */
  replayed(message: EngineMessage): SequencerStep {
    const replay = this.#replay;
    if (replay === null) return this.#step();
    this.#placeNewest(replay);
    if (this.#replay === replay) {
      replay.newest = ofAnswer(message);
      if (this.#placeOf(message) !== "repeat") replay.isBehind = true;
    } else this.#hold(ofAnswer(message));
    return this.#step();
  }

  /** The replay has come to its end: what was held follows. */
  replayEnded(): SequencerStep {
    const replay = this.#replay;
    if (replay === null) return this.#step();
    this.#placeNewest(replay);
    // Its last message has shown another life, which is asked for now.
    if (this.#replay !== replay) return this.#step();
    // Nothing as late as the cursor's message: this engine has never said it.
    if (replay.isLifeOpen) this.#beginLife(replay.held);
    else this.#release(replay.held);
    return this.#step();
  }

  /** The answer broke off. Returns where to ask again: the engine may be in another life by then. */
  replayBroke(): number {
    return askAgain(this.#replay, this.#cursor);
  }

  /** The engine did not answer, or not to the end: what was held follows, and a gap stays one. */
  replayFailed(): SequencerStep {
    const replay = this.#replay;
    if (replay === null) return this.#step();
    this.#placeNewest(replay);
    if (this.#replay !== replay) return this.#step();
    this.#replay = null;
    const replayed = this.#outbox.count;
    for (const message of replay.held) this.#placeWithoutReplay(message);
    return this.#step(replay.isBehind && this.#outbox.count === replayed);
  }

  #placeNewest(replay: Replay): void {
    const message = replay.newest;
    if (message === null) return;
    replay.newest = null;
    if (replay.isHealing && message.seq === 0) {
      replay.isHealing = false;
      replay.isLifeOpen = false;
      this.#giveUpEpoch();
    }
    if (replay.isLifeOpen) this.#placeFirst(message, replay);
    else {
      const heard = heardBefore(message, replay, this.#cursor);
      const isShown = (this.#cursor?.seq ?? -1) >= 0 || isHeard(message, replay);
      for (const each of heard) this.#placeReplayed(each);
      this.#placeReplayed(message, heard.length > 0 && !isShown);
    }
  }

  /** Places what may be the first message of an answer that has to show the engine's life. */
  #placeFirst(message: EngineMessage, replay: Replay): void {
    const cursor = this.#cursor;
    assert(cursor !== null, "a life without a cursor cannot be open");
    if (replay.isHealing && message.seq < cursor.seq) {
      this.#outbox.drop("duplicate");
    } else if (this.#isCursors(message, cursor)) {
      replay.isLifeOpen = false;
      this.#isUnproven = false;
    } else if (message.seq <= cursor.seq) {
      // Held, so that an answer that does not get there is noticed.
      this.#beginLife([message, ...replay.held]);
    } else {
      // The buffer begins behind the cursor: what it has is all that can be known, and of any life.
      replay.isLifeOpen = false;
      const [first = message, ...rest] = [...heardBefore(message, replay, cursor), message];
      const isUnproven = first.seq === cursor.seq + 1;
      this.#deliver(first, this.#epochBehindHole(), { isUnproven });
      for (const each of rest) this.#placeReplayed(each);
    }
  }

  #placeReplayed(message: EngineMessage, isUnproven = false): void {
    const place = this.#placeOf(message);
    if (place === "repeat") this.#outbox.drop("duplicate");
    else if (place === "next") this.#deliver(message, this.#epoch(), { isUnproven });
    else this.#deliver(message, place === "hole" ? this.#epochBehindHole() : this.#epochNext());
  }

  #hold(message: EngineMessage): void {
    const replay = this.#replay;
    assert(replay !== null, "a message is held without a replay");
    if (this.#placeOf(message) !== "repeat") replay.isBehind = true;
    if (hold(replay, message, this.#heldShare)) return;
    this.#outbox.drop("held-full");
    this.#owed.owe(message);
  }

  #placeLive(message: EngineMessage): void {
    const place = this.#placeOf(message);
    const isWhole = place === "next" || (place === "new-life" && message.seq === 0);
    if (this.#canReplay && !isWhole && place !== "repeat") {
      if (place === "hole" && this.#cursor !== null) this.#ask([message]);
      else this.#beginLife([message]);
    } else if (this.#canReplay && place === "next" && this.#isDoubtful(message)) {
      this.#ask([message]);
    } else this.#placeWithoutReplay(message);
  }

  /** Whether the engine is to be asked about a message that goes on: it may say it better. */
  #isDoubtful({ seq, batch }: EngineMessage): boolean {
    const isToldWrong = batch === null || (this.#isUnproven && seq > 0);
    return isToldWrong && this.#replayRounds < REPLAY_ROUNDS_MAX;
  }

  #placeWithoutReplay(message: EngineMessage): void {
    const isRestart = this.#isReconnected && message.seq <= (this.#cursor?.seq ?? -1);
    const place = isRestart ? "new-life" : this.#placeOf(message);
    this.#isReconnected = false;
    if (place === "repeat") {
      this.#outbox.drop("duplicate");
      if (this.#isCursors(message, this.#cursor)) this.#isUnproven = false;
      return;
    }
    const isDoubted = place === "next" && this.#isUnproven;
    const isUnproven = isDoubted && message.seq > 0;
    const epoch = place === "new-life" ? this.#epochNext() : this.#epoch();
    const seqBefore = this.#cursor?.seq ?? -1;
    // What could not be read is of this life, unless another connection came between.
    const isOfLife = this.#isCursorUndecodable && !this.#isUnproven && message.seq < seqBefore;
    if (isOfLife) this.#owed.oweNumber(seqBefore);
    this.#deliver(message, epoch, { isUnproven });
    // First words behind a new connection may be late ones of the life before: the next one is asked about.
    if (isDoubted && !isUnproven) this.#isUnproven = true;
    if (place === "next" && message.batch !== null) this.#replayRounds = 0;
  }

  /** Whether it is the cursor's own message: the engine is in the same life. */
  #isCursors(message: EngineMessage, cursor: SequenceCursor | null): boolean {
    if (cursor === null || message.seq !== cursor.seq) return false;
    return message.batch === null
      ? this.#isCursorUndecodable
      : engineMsOf(message) === cursor.engineMs;
  }

  /** Places what was held; a message that needs another replay takes those behind it along. */
  #release(held: readonly EngineMessage[]): void {
    this.#replay = null;
    for (const [position, message] of held.entries()) {
      if (isOfBefore(message, this.#cursor)) {
        this.#outbox.drop("duplicate");
        continue;
      }
      const isHole = this.#placeOf(message) === "hole";
      if (isHole && this.#replayRounds >= REPLAY_ROUNDS_MAX) {
        this.#deliver(message, this.#epochBehindHole());
        continue;
      }
      this.#placeLive(message);
      if (!this.#outbox.isAsking) continue;
      for (const later of held.slice(position + 1)) this.#hold(later);
      return;
    }
  }

  #placeOf({ seq, batch }: EngineMessage): Place {
    const cursor = this.#cursor;
    if (cursor === null) return seq === 0 ? "next" : "hole";
    const engineMs = engineMsOf({ seq, batch });
    // Late words of a former life; behind a new connection it may be an engine whose clock went back.
    if (engineMs > 0 && engineMs < this.#epochStartMs && !this.#isReconnected) return "repeat";
    if (seq === cursor.seq + 1) return "next";
    if (seq > cursor.seq) return "hole";
    // Says no time: nothing speaks for another life, which comes with another connection.
    if (batch === null) return "repeat";
    return engineMs === 0 || engineMs > cursor.engineMs ? "new-life" : "repeat";
  }

  /** Asks from the cursor's own message on, or from 0 where there is none. */
  #ask(held: readonly EngineMessage[]): void {
    const seq = this.#cursor?.seq ?? -1;
    this.#replayRounds += 1;
    this.#replay = newReplay({ isLifeOpen: seq >= 0, isHealing: false });
    for (const message of held) this.#hold(message);
    this.#outbox.askFrom(Math.max(0, seq));
  }

  /** The engine is in another life: all of it is asked for. */
  #beginLife(held: readonly EngineMessage[]): void {
    if (this.#cursor !== null) this.#giveUpEpoch();
    this.#ask(held);
    if (this.#replay !== null) this.#replay.isBehind = true;
  }

  /** Another epoch, of which nothing is known. */
  #giveUpEpoch(): void {
    const cursor = this.#cursor;
    this.#deliver(NOTHING_SAID, this.#epochNext(), { isNote: true });
    if (cursor !== null) this.#owed.oweAgain(cursor);
  }

  #deliver(
    message: EngineMessage,
    epoch: number,
    { isUnproven = false, isNote = false } = {},
  ): void {
    const saidMs = engineMsOf(message);
    // An undecodable message says no time; the one before it still bounds what is a repeat.
    const isTimeless = saidMs === 0 && this.#cursor?.epoch === epoch;
    const engineMs = isTimeless ? (this.#cursor?.engineMs ?? 0) : saidMs;
    const isFirst = this.#cursor?.epoch !== epoch || this.#epochStartMs === 0;
    if (isFirst || (saidMs > 0 && saidMs < this.#epochStartMs)) this.#epochStartMs = engineMs;
    const { seq, batch } = message;
    const isFirstOfEpoch = epoch !== this.#cursor?.epoch || this.#cursor.seq < 0;
    if (!isNote) this.#owed.delivered(message, { isFirstOfEpoch });
    this.#cursor = { epoch, seq, engineMs };
    this.#isUnproven = false;
    this.#isCursorUndecodable = batch === null;
    this.#outbox.deliver({ epoch, seq, engineMs, batch, isUnproven, isNote, isCatchingUp: false });
    if (this.#replay !== null) this.#replay.isBehind = true;
  }

  #epoch(): number {
    return this.#cursor?.epoch ?? this.#epochFirst;
  }

  #epochNext(): number {
    return this.#cursor === null ? this.#epochFirst : this.#cursor.epoch + 1;
  }

  /** Of a message behind a hole: the same life goes on where that is known. */
  #epochBehindHole(): number {
    const isKnownLife = this.#cursor !== null && this.#cursor.seq >= 0 && !this.#isUnproven;
    return isKnownLife ? this.#epoch() : this.#epochNext();
  }

  /** Hands over what this call has brought about. */
  #step(isBehind = this.#replay?.isBehind === true): SequencerStep {
    this.#heldShare?.settle(this.#replay?.heldBytes ?? 0);
    return this.#outbox.take(this.#cursor, isBehind || this.#owed.isOpen);
  }
}
