/**
 * One holder's messages -> keyed batches: put in order, then keyed.
 *
 * Pure: state in memory only, no clock, no socket.
 */
import type { Holder } from "../core/ids.ts";
import type { HolderCursor } from "../indexer/residency.ts";
import type { Tier } from "../tiers/tier.ts";
import type { Blocks } from "./handle-map.ts";
import type { HeldShare } from "./held-budget.ts";
import { HolderKeyer, type HolderKeyerDeps } from "./holder-keyer.ts";
import { isNote, type KeyedBatch, type KeyedEvent, lost } from "./keyed-batch.ts";
import { type LeftOut, NONE_LEFT_OUT } from "./left-out.ts";
import { isHealable } from "./loss-rank.ts";
import type {
  Delivery,
  EngineMessage,
  SequenceCursor,
  SequenceDrop,
  SequencerStep,
} from "./sequence.ts";
import { Sequencer } from "./sequencer.ts";

export interface RelayStep {
  readonly batches: readonly KeyedBatch[];
  /** Ask the engine for its messages from here on, and drop a replay that runs; null: do not. */
  readonly replayFrom: number | null;
  readonly drops: readonly SequenceDrop[];
  /** Events that were left out, and cost nothing of what is known. */
  readonly leftOut: LeftOut;
}

export interface HolderRelayDeps extends HolderKeyerDeps {
  readonly holder: Holder;
  /** Whether the engine has a replay socket. */
  readonly canReplay: boolean;
  /** Epoch to begin with where nothing is known of the holder; default 1. */
  readonly epochFirst?: number;
  /** Bounds what it holds together with others; default: nothing does. */
  readonly heldShare?: HeldShare;
}

export class HolderRelay {
  readonly holder: Holder;
  readonly #model: string;
  readonly #keyer: HolderKeyer;
  readonly #sequencer: Sequencer;
  #epoch = 0;
  #seq = -1;
  #engineMs = 0;
  #isWounded = false;
  /** The last batch said that more is to come. */
  #isCatchingUp = false;

  constructor(deps: HolderRelayDeps) {
    this.holder = deps.holder;
    this.#model = deps.model;
    this.#keyer = new HolderKeyer(deps);
    this.#sequencer = new Sequencer({ ...deps, cursor: null });
  }

  /** Takes over what an earlier relay of this holder knew, from the store. */
  restoreCursor(cursor: HolderCursor): void {
    this.#sequencer.adopt(cursor);
    this.#epoch = cursor.epoch;
    this.#seq = cursor.seq;
    this.#engineMs = cursor.engineMs;
    this.#isWounded = cursor.state !== "EXACT";
    this.#keyer.forget();
    this.#keyer.restoreLife(cursor);
    this.#keyer.orphans.setElsewhere(cursor.reason === "unknown-parent");
  }

  restoreHandles(blocks: Blocks, copies: Uint32Array): void {
    this.#keyer.restoreHandles(blocks, copies);
  }

  /** So many of a block's copies are in this tier. */
  restoreLower(tier: Tier, handle: bigint, copies: number): void {
    this.#keyer.restoreLower(tier, handle, copies);
  }

  /** A block that may be a connector's, of unknown age. */
  restoreHint(tier: Tier, handle: bigint): void {
    this.#keyer.restoreHint(tier, handle);
  }

  /** Life of the hints that there are, ms; null: none. */
  get hintLifeMs(): number | null {
    const { size, lifeMs } = this.#keyer.hints;
    return size === 0 ? null : lifeMs;
  }

  /** So much time has gone since the engine's latest word: hints that are over end. */
  elapsed(elapsedMs: number): RelayStep {
    const ended = this.#keyer.endHints(elapsedMs);
    const events = [{ type: "aside" } as const, ...ended];
    const { holder } = this;
    const engineMs = this.#engineMs + Math.max(1, Math.round(elapsedMs));
    const place = { epoch: this.#epoch, seq: this.#seq, engineMs };
    const batches = ended.length === 0 ? [] : [{ holder, model: this.#model, ...place, events }];
    return { batches, replayFrom: null, drops: [], leftOut: NONE_LEFT_OUT };
  }

  /** Something is missing that the engine's replay could tell. */
  get isWounded(): boolean {
    const isLeftOpen = this.#isCatchingUp && this.#seq >= 0 && !this.#sequencer.isReplaying;
    return this.#isWounded || this.#keyer.orphans.isWaiting || isLeftOpen;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** The last message that was relayed; null: none was. */
  get cursor(): SequenceCursor | null {
    if (this.#epoch === 0) return null;
    return { epoch: this.#epoch, seq: this.#seq, engineMs: this.#engineMs };
  }

  /** Something of what was handed over did not reach all readers. */
  wound(): void {
    this.#isWounded = true;
  }

  /** Follows a batch of the log that an earlier relay published. */
  adopt(batch: KeyedBatch): void {
    // Ends of hints: those that are taken over are of unknown age, and end anyway.
    if (batch.events[0]?.type === "aside") return;
    const isNews = this.#sequencer.adopt(batch);
    const isHere = batch.epoch === this.#epoch && batch.seq === this.#seq;
    if (isNews || (isHere && isNote(batch))) this.#isCatchingUp = isCatchingUp(batch);
    if (!isNews) return;
    const isOtherModel = batch.model !== this.#model;
    const isNewLife = batch.epoch !== this.#epoch || isOtherModel;
    if (isNewLife) this.#keyer.forget();
    const seqBefore = isNote(batch) ? batch.seq : batch.seq - 1;
    if (seqBefore !== (isNewLife ? -1 : this.#seq)) this.#keyer.missedSomeOfLife();
    this.#epoch = batch.epoch;
    this.#seq = batch.seq;
    this.#engineMs = batch.engineMs;
    if (!isOtherModel) this.#keyer.adoptEvents(batch.events);
  }

  /** The live socket is connected, for the first time or again. */
  connected(): RelayStep {
    return this.#relay(this.#sequencer.connected());
  }

  live(message: EngineMessage): RelayStep {
    const step = this.#relay(this.#sequencer.live(message));
    const isUnread = message.batch === null && step.drops.includes("duplicate");
    return isUnread ? { ...step, batches: [...step.batches, this.#unread()] } : step;
  }

  replayed(message: EngineMessage): RelayStep {
    return this.#relay(this.#sequencer.replayed(message));
  }

  replayEnded(): RelayStep {
    return this.#relay(this.#sequencer.replayEnded());
  }

  /** Returns where to ask again. */
  replayBroke(): number {
    return this.#sequencer.replayBroke();
  }

  replayFailed(): RelayStep {
    return this.#relay(this.#sequencer.replayFailed());
  }

  /** Something is missing here: has the engine tell its whole life again, where it can. */
  heal(): RelayStep {
    return this.#relay(this.#sequencer.heal());
  }

  /** Gives up what is known, because it has drifted, and asks the engine again where that can be. */
  resync(): RelayStep {
    return this.#startAnew({ isAsking: true });
  }

  /** Readers know a later epoch, and fence off what is said here: begins one behind it. */
  overtake(epoch: number): RelayStep {
    this.#sequencer.overtake(epoch);
    return this.resync();
  }

  /** Gives up what is known, because it may be wrong by a fault of this program. */
  giveUp(): RelayStep {
    return this.#startAnew({ isAsking: false });
  }

  /** Its number was said before, but nobody can read whether the rest was: it may be another life's. */
  #unread(): KeyedBatch {
    this.#isWounded = true;
    const place = { epoch: this.#epoch, seq: this.#seq, engineMs: this.#engineMs };
    const events = [{ type: "catching-up", isNote: true } as const, lost("undecodable")];
    return { holder: this.holder, model: this.#model, ...place, events };
  }

  #startAnew(options: { readonly isAsking: boolean }): RelayStep {
    const step = this.#relay(this.#sequencer.startAnew(options));
    const [begin, ...rest] = step.batches;
    if (begin === undefined) return step;
    return {
      ...step,
      batches: [{ ...begin, events: [{ type: "lost", reason: "resync" }] }, ...rest],
    };
  }

  #relay({ deliveries, replayFrom, drops }: SequencerStep): RelayStep {
    const batches = deliveries.map((each) => this.#keyed(each));
    return { batches, replayFrom, drops, leftOut: this.#keyer.takeLeftOut() };
  }

  #keyed(delivery: Delivery): KeyedBatch {
    const { epoch, seq, engineMs, batch, isUnproven, isNote: isNoted } = delivery;
    const isNewLife = epoch !== this.#epoch;
    if (isNewLife) this.#keyer.forget();
    const seqNext = isNoted ? this.#seq : this.#seq + 1;
    const isWounded = isNewLife ? seq > 0 : this.#isWounded || seq !== seqNext;
    this.#epoch = epoch;
    this.#seq = seq;
    this.#isCatchingUp = delivery.isCatchingUp;
    this.#engineMs = engineMs;
    const { holder } = this;
    // A note that the log loses leaves no gap.
    const pending = isNoted ? [] : this.#keyer.takePending();
    const keyed = this.#keyer.keyEvents(batch);
    const events = pending.length === 0 ? keyed : [...pending, ...keyed];
    if (isUnproven) events.unshift({ type: "lost", reason: "unproven-life" });
    if (delivery.isCatchingUp) events.unshift({ type: "catching-up", isNote: isNoted });
    this.#isWounded = isWounded || events.some(isWound);
    return { holder, model: this.#model, epoch, seq, engineMs, events };
  }
}

/** Stores that wait are asked about while they do. */
function isWound(event: KeyedEvent): boolean {
  return event.type === "lost" && event.reason !== "unknown-parent" && isHealable(event.reason);
}

function isCatchingUp({ events }: KeyedBatch): boolean {
  return events.some(({ type }) => type === "catching-up");
}
