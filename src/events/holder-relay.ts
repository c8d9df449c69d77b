/**
 * One holder's messages -> keyed batches: put in order, then keyed.
 *
 * Pure: state in memory only, no clock, no socket.
 */
import type { BlockKey, Holder } from "../core/ids.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { HolderKeyer } from "./holder-keyer.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import {
  type Delivery,
  type EngineMessage,
  type SequenceCursor,
  type SequenceDrop,
  Sequencer,
  type SequencerStep,
} from "./sequencer.ts";

export interface RelayStep {
  readonly batches: readonly KeyedBatch[];
  /** Ask the engine for its messages from here on, and drop a replay that runs; null: do not. */
  readonly replayFrom: number | null;
  readonly drops: readonly SequenceDrop[];
}

export class HolderRelay {
  readonly holder: Holder;
  readonly #model: string;
  readonly #keyer: HolderKeyer;
  readonly #sequencer: Sequencer;
  #epoch = 0;

  constructor(deps: {
    readonly holder: Holder;
    readonly model: string;
    readonly hasher: BlockHasher;
    /** Whether the engine has a replay socket. */
    readonly canReplay: boolean;
    /** Epoch to begin with where nothing is known of the holder; default 1. */
    readonly epochFirst?: number;
  }) {
    this.holder = deps.holder;
    this.#model = deps.model;
    this.#keyer = new HolderKeyer(deps);
    this.#sequencer = new Sequencer({ ...deps, cursor: null });
  }

  /** Takes over what an earlier relay of this holder knew, from the store. */
  restoreCursor(cursor: SequenceCursor): void {
    this.#sequencer.adopt(cursor);
    this.#epoch = cursor.epoch;
    this.#keyer.forget();
  }

  restoreHandle(handle: bigint, key: BlockKey, copies: number): void {
    this.#keyer.restoreHandle(handle, key, copies);
  }

  /** Follows a batch of the log that an earlier relay published. */
  adopt(batch: KeyedBatch): void {
    const isNews = this.#sequencer.adopt(batch);
    if (!isNews) return;
    const isOtherModel = batch.model !== this.#model;
    if (batch.epoch !== this.#epoch || isOtherModel) this.#keyer.forget();
    this.#epoch = batch.epoch;
    if (!isOtherModel) this.#keyer.adoptEvents(batch.events);
  }

  /** The live socket is connected, for the first time or again. */
  connected(): RelayStep {
    return this.#relay(this.#sequencer.connected());
  }

  live(message: EngineMessage): RelayStep {
    return this.#relay(this.#sequencer.live(message));
  }

  replayed(message: EngineMessage): RelayStep {
    return this.#relay(this.#sequencer.replayed(message));
  }

  replayEnded(): RelayStep {
    return this.#relay(this.#sequencer.replayEnded());
  }

  replayFailed(): RelayStep {
    return this.#relay(this.#sequencer.replayFailed());
  }

  /** Gives up what is known, because it has drifted, and asks the engine again where that can be. */
  resync(): RelayStep {
    const step = this.#relay(this.#sequencer.startAnew());
    const [begin, ...rest] = step.batches;
    if (begin === undefined) return step;
    return {
      ...step,
      batches: [{ ...begin, events: [{ type: "lost", reason: "resync" }] }, ...rest],
    };
  }

  #relay({ deliveries, replayFrom, drops }: SequencerStep): RelayStep {
    return { batches: deliveries.map((each) => this.#keyed(each)), replayFrom, drops };
  }

  #keyed({ epoch, seq, engineMs, batch }: Delivery): KeyedBatch {
    if (epoch !== this.#epoch) this.#keyer.forget();
    this.#epoch = epoch;
    const { holder } = this;
    const events = this.#keyer.keyEvents(batch);
    return { holder, model: this.#model, epoch, seq, engineMs, events };
  }
}
