/**
 * The way from one rank of an engine to its relay: a live socket that loses, doubles, swaps and damages
 * messages, and a replay socket that may not answer, or not to the end. Both as in zmq-event-stream.ts.
 */
import type { HolderRelay, RelayStep } from "../../src/events/holder-relay.ts";
import type { KvEventBatch } from "../../src/events/kv-event.ts";
import type { EngineMessage } from "../../src/events/sequence.ts";
import type { Chance } from "./chance.ts";
import type { Said } from "./chaos-said.ts";

const REPLAY_ATTEMPTS = 3;

export interface WayFaults {
  readonly drop: number;
  readonly double: number;
  readonly swap: number;
  readonly damage: number;
  /** Of a replay: that it gives no answer, or ends before its end. */
  readonly replayFails: number;
  /** Of one reply. */
  readonly replyLost: number;
}

export const NO_WAY_FAULTS: WayFaults = {
  drop: 0,
  double: 0,
  swap: 0,
  damage: 0,
  replayFails: 0,
  replyLost: 0,
};

interface Replay {
  fromSeq: number;
  attempt: number;
  replies: Said[];
  isAnswered: boolean;
}

/** Null: it could not be decoded. */
type Decode = (payload: Uint8Array) => KvEventBatch | null;

export class ChaosStream<Engine extends { readonly said: readonly Said[] }> {
  readonly engine: Engine;
  readonly #newDecode: () => Decode;
  readonly #chance: Chance;
  readonly #onStep: (step: RelayStep) => void;
  #decodePayload: Decode;
  relay: HolderRelay;
  faults: WayFaults;
  /** Messages under way, oldest first; null: a connection that stands from here on. */
  #live: (Said | null)[] = [null];
  #late: Said[] = [];
  #replay: Replay | null = null;
  /** Newest message that either socket has handed to this relay; null: none. */
  shown: Said | null = null;

  constructor(deps: {
    readonly engine: Engine;
    /** Of a relay: what it is called with comes from one engine, in order. */
    readonly newDecode: () => Decode;
    readonly relay: HolderRelay;
    readonly chance: Chance;
    readonly faults: WayFaults;
    readonly onStep: (step: RelayStep) => void;
  }) {
    this.engine = deps.engine;
    this.relay = deps.relay;
    this.faults = deps.faults;
    this.#chance = deps.chance;
    this.#onStep = deps.onStep;
    this.#newDecode = deps.newDecode;
    this.#decodePayload = deps.newDecode();
  }

  get isIdle(): boolean {
    return this.#live.length === 0 && this.#late.length === 0 && this.#replay === null;
  }

  /** The engine sends a message. */
  send(said: Said): void {
    const { drop, double, swap, damage } = this.faults;
    if (this.#chance.is(drop)) return;
    const payload = this.#chance.is(damage) ? this.#damaged(said.payload) : said.payload;
    const sent = { ...said, payload };
    if (this.#chance.is(swap)) {
      this.#late.push(sent);
      return;
    }
    this.#live.push(sent);
    if (this.#chance.is(double)) this.#live.push(said);
    if (this.#late.length > 0 && this.#chance.is(0.5)) this.#live.push(...this.#late.splice(0));
  }

  /** The connection ends, and another one stands: what was under way may be lost. */
  reconnect(options: { readonly isLossy: boolean }): void {
    if (options.isLossy) {
      this.#live = this.#live.filter((each) => each === null);
      this.#late = [];
    }
    // Nothing of one connection comes after the next one stands.
    this.#live.push(...this.#late.splice(0), null);
  }

  /** Another relay reads from now on. */
  restarted(relay: HolderRelay): void {
    this.relay = relay;
    this.#replay = null;
    this.shown = null;
    this.#live = [null];
    this.#late = [];
    this.#decodePayload = this.#newDecode();
  }

  /** The relay has all that an earlier one left: of hints nobody knows the age. */
  ready(): void {
    this.take(this.relay.elapsed(0));
  }

  /** The engine's process is gone: a replay that runs breaks off, or goes on with the next life. */
  engineRestarted(): void {
    this.reconnect({ isLossy: this.#chance.is(0.6) });
    if (this.#replay === null) return;
    // Such an answer looks whole: of a life that is gone it may hide what an earlier one had shown.
    this.#replay.replies = [];
    this.shown = null;
  }

  heal(): void {
    this.take(this.relay.heal());
  }

  /** What was known is given up, and that it was said with it. */
  resync(): void {
    this.shown = null;
    this.take(this.relay.resync());
  }

  overtake(epoch: number): void {
    this.shown = null;
    this.take(this.relay.overtake(epoch));
  }

  /** Time passes without a word: a connector's chunks are believed no more. */
  elapsed(nowMs: number): void {
    if (this.shown !== null) this.take(this.relay.elapsed(nowMs - this.shown.atMs));
  }

  /** Hands over one message of either socket. */
  step(): void {
    if (this.#replay !== null && (this.#live.length === 0 || this.#chance.is(0.6))) {
      this.#stepReplay(this.#replay);
      return;
    }
    if (this.#live.length === 0) this.#live.push(...this.#late.splice(0));
    const next = this.#live.shift();
    if (next === undefined) return;
    this.take(next === null ? this.relay.connected() : this.relay.live(this.#decode(next)));
  }

  take(step: RelayStep): void {
    this.#onStep(step);
    if (step.replayFrom === null) return;
    this.#replay = { fromSeq: step.replayFrom, attempt: 0, replies: [], isAnswered: false };
  }

  #stepReplay(replay: Replay): void {
    const { chance } = { chance: this.#chance };
    if (!replay.isAnswered) {
      replay.isAnswered = true;
      replay.replies = this.engine.said.filter(({ seq }) => seq >= replay.fromSeq);
      if (chance.is(this.faults.replayFails)) this.#replayFailed(replay);
      return;
    }
    const reply = replay.replies.shift();
    if (reply === undefined) {
      this.#replay = null;
      this.take(this.relay.replayEnded());
      return;
    }
    if (chance.is(this.faults.replayFails / 4)) this.#replayFailed(replay);
    else if (!chance.is(this.faults.replyLost)) this.take(this.relay.replayed(this.#decode(reply)));
  }

  #replayFailed(replay: Replay): void {
    replay.attempt += 1;
    replay.isAnswered = false;
    if (replay.attempt < REPLAY_ATTEMPTS) {
      replay.fromSeq = this.relay.replayBroke();
      return;
    }
    this.#replay = null;
    this.take(this.relay.replayFailed());
  }

  #decode(said: Said): EngineMessage {
    const { seq, payload } = said;
    const batch = this.#decodePayload(payload);
    const { shown } = this;
    // What cannot be decoded says no time: it shows no more than a number behind those that were there.
    const isNews = batch !== null ? said.atMs > (shown?.atMs ?? 0) : seq > (shown?.seq ?? seq);
    if (isNews) this.shown = said;
    return { seq, batch };
  }

  #damaged(payload: Uint8Array): Uint8Array {
    const cut = payload.subarray(0, this.#chance.below(payload.length));
    return this.#chance.is(0.7) ? cut : Uint8Array.of(0xc1, ...cut);
  }
}
