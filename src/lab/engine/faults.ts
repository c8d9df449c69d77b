/**
 * Everything that can go wrong between an engine and its subscribers, switched at run time.
 *
 * One per rank, applied in its publisher, kept over a restart. Faults of the way (drop, duplicate,
 * swap, hold, damage, silence) touch what is sent and never the replay buffer; those that are
 * switched by `set` and change events are in the buffer too, since the engine itself tells them.
 */
import { assert } from "../../core/assert.ts";
import { seededRandom } from "../../core/random.ts";
import type { EngineFact } from "./engine-facts.ts";
import { withFactFaults } from "./fact-faults.ts";
import { type FaultSwitches, NO_FAULTS } from "./fault-switches.ts";
import { type Damage, damaged, type MessageFrames } from "./message-damage.ts";

/** Messages held back at once; one more is dropped. */
const HELD_MESSAGES_MAX = 100_000;

/** How often each fault of the way was applied. */
export interface FaultCounts {
  dropped: number;
  duplicated: number;
  swapped: number;
  held: number;
  damaged: number;
}

export class EventFaults {
  readonly counts: FaultCounts = { dropped: 0, duplicated: 0, swapped: 0, held: 0, damaged: 0 };
  readonly #random: { next(): number };
  #switches: FaultSwitches = NO_FAULTS;
  #dropNext = 0;
  #duplicateNext = 0;
  #swapNext = 0;
  #holdNext = 0;
  #damageNext: { readonly damage: Damage; readonly framesSent: number; left: number } | null = null;
  #regressTo: number | null = null;
  #held: MessageFrames[] = [];
  #swapped: MessageFrames | null = null;
  #out: (frames: MessageFrames) => void = () => {};

  /** `seed` decides what is dropped at random and what garbage looks like. */
  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  get switches(): FaultSwitches {
    return this.#switches;
  }

  /** Switches faults on and off that last; those left out stay as they are. */
  set(changes: Partial<FaultSwitches>): void {
    this.#switches = { ...this.#switches, ...changes };
  }

  /** Drops the next messages: a gap; they stay in the replay buffer. */
  dropNext(messages = 1): void {
    this.#dropNext = messages;
  }

  /** Sends each of the next messages twice. */
  duplicateNext(messages = 1): void {
    this.#duplicateNext = messages;
  }

  /** Sends the next message behind the one that follows it; so for the next pairs. */
  swapNext(pairs = 1): void {
    this.#swapNext = pairs;
  }

  /** Keeps the next messages back while later ones pass (Infinity: all), until `release`. */
  holdNext(messages = 1): void {
    this.#holdNext = messages;
  }

  /** Stops holding and swapping, and sends what is held in its order. */
  release(): void {
    this.#holdNext = 0;
    this.#swapNext = 0;
    const late = this.#swapped === null ? this.#held : [...this.#held, this.#swapped];
    this.#held = [];
    this.#swapped = null;
    for (const frames of late) this.#out(frames);
  }

  /** Cuts the payloads of the next messages in half. */
  truncateNext(messages = 1): void {
    this.#damageNext = { damage: "truncate", framesSent: 3, left: messages };
  }

  /** Replaces the payloads of the next messages by random bytes. */
  garbageNext(messages = 1): void {
    this.#damageNext = { damage: "garbage", framesSent: 3, left: messages };
  }

  /** Sends the next messages with `framesSent` frames in place of three, 1 and more. */
  wrongFramesNext(messages = 1, framesSent = 2): void {
    assert(framesSent >= 1, "a message has a frame", { framesSent });
    this.#damageNext = { damage: "frames", framesSent, left: messages };
  }

  /** Gives the next batch this number although the engine keeps its blocks; default 0. */
  regressTo(seq = 0): void {
    this.#regressTo = seq;
  }

  /** Switches every fault off; what is held is sent. */
  clear(): void {
    this.#switches = NO_FAULTS;
    this.#dropNext = 0;
    this.#duplicateNext = 0;
    this.#damageNext = null;
    this.#regressTo = null;
    this.release();
  }

  /** Publisher: where messages go on. A message that an earlier life held goes there as well. */
  attach(out: (frames: MessageFrames) => void): void {
    this.#out = out;
  }

  /** Publisher: the number of the next batch. */
  takeSeq(nextSeq: number): number {
    const seq = this.#regressTo ?? nextSeq;
    this.#regressTo = null;
    return seq;
  }

  /** Encoder: the facts of a batch as the faults let the engine tell them. */
  told(facts: readonly EngineFact[]): readonly EngineFact[] {
    return withFactFaults(facts, this.#switches, this.#random);
  }

  /** Publisher: sends a message on, or what the faults make of it. */
  pass(frames: MessageFrames): void {
    if (this.#isLost()) return;
    const sent = this.#damage(frames);
    if (this.#holdNext > 0) {
      this.#holdNext -= 1;
      if (this.#held.length >= HELD_MESSAGES_MAX) this.counts.dropped += 1;
      else this.#held.push(sent);
      this.counts.held += 1;
      return;
    }
    if (this.#swapNext > 0 && this.#swapped === null) {
      this.#swapped = sent;
      return;
    }
    this.#send(sent);
    if (this.#swapped !== null) {
      this.counts.swapped += 1;
      this.#swapNext -= 1;
      const late = this.#swapped;
      this.#swapped = null;
      this.#send(late);
    }
  }

  #isLost(): boolean {
    const { isSilent, dropShare } = this.#switches;
    const isNext = this.#dropNext > 0;
    if (isNext) this.#dropNext -= 1;
    const isLost = isSilent || isNext || (dropShare > 0 && this.#random.next() < dropShare);
    if (isLost) this.counts.dropped += 1;
    return isLost;
  }

  #damage(frames: MessageFrames): MessageFrames {
    const next = this.#damageNext;
    if (next === null || next.left <= 0) return frames;
    next.left -= 1;
    this.counts.damaged += 1;
    return damaged(frames, next.damage, { random: this.#random, framesSent: next.framesSent });
  }

  #send(frames: MessageFrames): void {
    this.#out(frames);
    if (this.#duplicateNext <= 0) return;
    this.#duplicateNext -= 1;
    this.counts.duplicated += 1;
    this.#out(frames);
  }
}
