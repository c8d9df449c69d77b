/**
 * One holder's events from its sockets to the sink: live socket -> frames -> decoder -> relay, and the
 * replay socket whenever the relay asks for what is missing. TensorRT-LLM is polled in place of that.
 */
import { type Clock, sleep } from "../core/clock.ts";
import { ENGINE_DEFAULT, type EngineName } from "../core/engine-name.ts";
import { messageOf } from "../core/errors.ts";
import { holderName } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import { createEventDecoder, type EventDecoder } from "./event-decoder.ts";
import { type EventMessage, parseFrames } from "./frames.ts";
import type { HolderRelay, RelayStep } from "./holder-relay.ts";
import type { KeyedSink } from "./keyed-batch.ts";
import { batchBytes } from "./kv-event.ts";
import type { EngineMessage } from "./sequence.ts";
import { type StreamFacts, StreamWatch } from "./stream-facts.ts";
import type { RankFollower, TrtllmPolls } from "./trtllm-polls.ts";
import { replayZmqEvents } from "./zmq-replay.ts";
import { readZmqEvents, type ZmqSource } from "./zmq-subscriber.ts";

/** Attempts of one replay before the gap is left open, and the pause between them. */
const REPLAY_ATTEMPTS_MAX = 3;
const REPLAY_RETRY_MS = 500;
/** Pause before an engine is asked for its whole life again, ms: doubled from the first to the last. */
const HEAL_MS = 2000;
const HEAL_MS_MAX = 600_000;

const EMPTY = new Uint8Array(0);

export interface EventStreamSource extends ZmqSource {
  /** Whose events they are; default ENGINE_DEFAULT. With trtllm `address` is the URL to poll. */
  readonly engine?: EngineName;
  /** "tcp://host:port" of the engine's replay socket; null: it has none. */
  readonly replayAddress: string | null;
}

export interface EventStreamDeps {
  readonly relay: HolderRelay;
  readonly sink: KeyedSink;
  /** Resolves when the log's tail is adopted; live events wait in their socket until then. */
  readonly ready: Promise<void>;
  /** Of all streams together. */
  readonly polls: TrtllmPolls;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class EventStream {
  readonly relay: HolderRelay;
  readonly #source: EventStreamSource;
  readonly #decoder: EventDecoder;
  readonly #deps: EventStreamDeps;
  readonly #abort = new AbortController();
  readonly #watch: StreamWatch;
  readonly #reading: Promise<void>;
  #replaying: Promise<void> = Promise.resolve();
  #replayAbort = new AbortController();
  #cancelHealing: (() => void) | null = null;
  #healMs = HEAL_MS;
  /** When another epoch may be begun because readers know a later one, monotonic ms. */
  #overtakeMs = 0;
  #overtakePauseMs = HEAL_MS;
  #cancelHints: (() => void) | null = null;
  /** When the engine's latest word was taken, monotonic ms. */
  #takenMs = 0;
  #isReady = false;
  #isConnected = false;

  constructor(source: EventStreamSource, deps: EventStreamDeps) {
    this.relay = deps.relay;
    this.#source = source;
    this.#decoder = createEventDecoder(source.engine ?? ENGINE_DEFAULT);
    this.#deps = deps;
    this.#watch = new StreamWatch(source.address, deps.clock.nowMs());
    this.#reading = source.engine === "trtllm" ? this.#poll() : this.#read();
  }

  facts(): StreamFacts {
    return this.#watch.facts();
  }

  /** Newest message of the live socket, monotonic ms; null: none. */
  get heardMs(): number | null {
    return this.#watch.heardMs;
  }

  /** Gives up what is known of the holder, and asks its engine again where that can be. */
  resync(): void {
    this.#takeFrom(() => this.relay.resync());
  }

  /** A reader lacks something: has the engine tell its life again, after the pause for that. */
  heal(): void {
    this.relay.wound();
    this.#healLater();
  }

  /** Readers know this epoch: a later one begins, unless that was done not long ago. */
  overtake(epoch: number): void {
    const nowMs = this.#deps.clock.nowMs();
    if (this.relay.epoch >= epoch || nowMs < this.#overtakeMs) return;
    this.#overtakeMs = nowMs + this.#overtakePauseMs;
    this.#overtakePauseMs = Math.min(HEAL_MS_MAX, 2 * this.#overtakePauseMs);
    this.#takeFrom(() => this.relay.overtake(epoch));
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    this.#replayAbort.abort();
    this.#cancelHealing?.();
    this.#cancelHints?.();
    await this.#reading;
    await this.#replaying;
  }

  async #read(): Promise<void> {
    const { clock, log, ready } = this.#deps;
    const { signal } = this.#abort;
    void ready.then(() => {
      this.#isReady = true;
      // What an earlier relay was told by a connector is of unknown age.
      if (!signal.aborted) this.#takeFrom(() => this.relay.elapsed(0));
      if (this.#isConnected && !signal.aborted) this.#takeFrom(() => this.relay.connected());
    });
    try {
      await readZmqEvents(this.#source, {
        clock,
        ready,
        signal,
        onFrames: (frames) => this.#receive(frames),
        // Before the tail is adopted nothing is known that could be asked from.
        onConnected: () => {
          this.#isConnected = true;
          this.#watch.connected();
          if (this.#isReady) this.#takeFrom(() => this.relay.connected());
        },
        onViolation: () =>
          this.#refuse("protocol-violation", "the connection is opened anew", EMPTY),
      });
    } catch (error) {
      const fields = { holder: holderName(this.relay.holder), address: this.#source.address };
      log.error({ ...fields, error: messageOf(error) }, "KV event subscription failed");
    }
  }

  /** The engine's answers have the events of all its ranks: they are asked for once. */
  #poll(): Promise<void> {
    const { clock, ready, log, meter, polls } = this.#deps;
    const { endpointId, rank } = this.relay.holder;
    const follower: RankFollower = {
      rank,
      onAnswer: (otherRank) => this.#watch.answered(otherRank),
      onMessage: (message) => {
        this.#watch.heard([], clock.nowMs());
        meter.count("kvatlas_events_messages_total", { endpoint: endpointId });
        this.#takeFrom(() => this.relay.live(message));
      },
      onOtherRank: () => meter.count("kvatlas_events_refused_total", { reason: "other-rank" }),
      onPoll: (outcome) => {
        const label = outcome.ok ? "answered" : outcome.reason;
        meter.count("kvatlas_events_polls_total", { outcome: label });
        if (outcome.ok) return;
        const { reason, detail } = outcome;
        log.debug({ holder: holderName(this.relay.holder), reason, detail }, "poll failed");
      },
      onRefused: (reason, detail, answer) => this.#refuse(reason, detail, answer),
    };
    const { signal } = this.#abort;
    return polls.follow(this.#source.address, follower, { clock, ready, signal });
  }

  #receive(frames: readonly Uint8Array[]): void {
    const { endpointId } = this.relay.holder;
    this.#deps.meter.count("kvatlas_events_messages_total", { endpoint: endpointId });
    this.#watch.heard(frames, this.#deps.clock.nowMs());
    const message = parseFrames(frames);
    if (message.ok) this.#takeFrom(() => this.relay.live(this.#decode(message.value)));
    else this.#refuse(message.reason, message.detail, frames[2] ?? frames[0] ?? EMPTY);
  }

  #decode({ seq, payload }: EventMessage): EngineMessage {
    this.#takenMs = this.#deps.clock.nowMs();
    const decoded = this.#decoder.decode(payload);
    if (decoded.ok) return { seq, batch: decoded.value, bytes: batchBytes(decoded.value) };
    this.#refuse(decoded.reason, decoded.detail, payload);
    return { seq, batch: null };
  }

  /** A fault in here costs what is known of this holder, and neither its stream nor another's. */
  #takeFrom(step: () => RelayStep): void {
    try {
      this.#take(step());
    } catch (error) {
      const { log, meter } = this.#deps;
      meter.count("kvatlas_events_refused_total", { reason: "internal-error" });
      const fields = { holder: holderName(this.relay.holder), error: messageOf(error) };
      log.error(fields, "KV events could not be taken: what is known of the holder is given up");
      this.#replayAbort.abort();
      this.#take(this.relay.giveUp());
      this.#healLater();
    }
  }

  /** The engine's whole life is asked for again while something of it is missing. */
  #healLater(): void {
    if (this.#source.replayAddress === null || this.#cancelHealing !== null) return;
    const { clock } = this.#deps;
    this.#cancelHealing = clock.after(this.#healMs, () => {
      this.#cancelHealing = null;
      if (this.relay.isWounded) this.#takeFrom(() => this.relay.heal());
    });
    this.#healMs = Math.min(HEAL_MS_MAX, 2 * this.#healMs);
  }

  /** While the engine is silent its hints end here; otherwise with its next message. */
  #endHintsLater(): void {
    const { relay } = this;
    const { clock } = this.#deps;
    if (relay.hintLifeMs === null || this.#cancelHints !== null) return;
    this.#cancelHints = clock.after(relay.hintLifeMs, () => {
      this.#cancelHints = null;
      if (this.#isReady) this.#takeFrom(() => relay.elapsed(clock.nowMs() - this.#takenMs));
      this.#endHintsLater();
    });
  }

  #take({ batches, replayFrom, drops, leftOut }: RelayStep): void {
    const { meter, sink } = this.#deps;
    this.#endHintsLater();
    for (const [reason, events] of leftOut) {
      meter.count("kvatlas_events_refused_total", { reason }, events);
    }
    for (const batch of batches) if (!sink.accept(batch)) this.relay.wound();
    for (const reason of drops) meter.count("kvatlas_events_refused_total", { reason });
    if (replayFrom === null) {
      if (this.relay.isWounded) this.#healLater();
      else this.#healMs = HEAL_MS;
      return;
    }
    this.#replayAbort.abort();
    this.#replayAbort = new AbortController();
    const { signal } = this.#replayAbort;
    this.#replaying = this.#replaying
      .then(() => this.#replay(replayFrom, signal))
      .catch((error: unknown) => {
        const fields = { holder: holderName(this.relay.holder), error: messageOf(error) };
        this.#deps.log.error(fields, "replay of KV events failed");
      });
  }

  /** Hands the engine's buffer to the relay; a replay that was dropped hands over nothing more. */
  async #replay(firstSeq: number, signal: AbortSignal): Promise<void> {
    const { clock, meter } = this.#deps;
    const address = this.#source.replayAddress;
    const onMessage = (message: EventMessage): void => {
      if (!signal.aborted) this.#takeFrom(() => this.relay.replayed(this.#decode(message)));
    };
    let fromSeq = firstSeq;
    for (let attempt = 0; attempt < REPLAY_ATTEMPTS_MAX && address !== null; attempt += 1) {
      if (attempt > 0) {
        await sleep(clock, REPLAY_RETRY_MS, signal);
        if (signal.aborted) return;
        fromSeq = this.relay.replayBroke();
      }
      const outcome = await replayZmqEvents({ address, fromSeq }, { clock, onMessage, signal });
      if (signal.aborted) return;
      meter.count("kvatlas_events_replays_total", { outcome });
      if (outcome === "failed") continue;
      this.#takeFrom(() => this.relay.replayEnded());
      return;
    }
    if (!signal.aborted) this.#takeFrom(() => this.relay.replayFailed());
  }

  #refuse(reason: string, detail: string, payload: Uint8Array): void {
    this.#watch.refused(reason, payload, this.#deps.clock.nowMs());
    this.#deps.meter.count("kvatlas_events_refused_total", { reason });
    const fields = { holder: holderName(this.relay.holder), reason, detail };
    this.#deps.log.warn(fields, "KV event message refused");
  }
}
