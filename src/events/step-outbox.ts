/** Gathers what one call of the sequencer has brought about, and says of each delivery whether it is all. */
import {
  type Delivery,
  NO_DELIVERIES,
  NO_DROPS,
  NOTHING_SAID,
  type SequenceCursor,
  type SequenceDrop,
  type SequencerStep,
} from "./sequence.ts";

export class StepOutbox {
  #deliveries: Delivery[] = [];
  #drops: SequenceDrop[] = [];
  #replayFrom: number | null = null;
  /** The last delivery said that more is to come. */
  #isCatchingUp = false;

  /** Deliveries since the last step. */
  get count(): number {
    return this.#deliveries.length;
  }

  /** Whether the step asks the engine. */
  get isAsking(): boolean {
    return this.#replayFrom !== null;
  }

  deliver(delivery: Delivery): void {
    // Mostly the only one: an array that is pushed to takes room for many.
    if (this.#deliveries.length === 0) this.#deliveries = [delivery];
    else this.#deliveries.push(delivery);
  }

  drop(reason: SequenceDrop): void {
    this.#drops.push(reason);
  }

  askFrom(seq: number): void {
    this.#replayFrom = seq;
  }

  /** The step, which empties it. `isCatchingUp`: the engine has said more than is delivered by now. */
  take(cursor: SequenceCursor | null, isCatchingUp: boolean): SequencerStep {
    const deliveries = this.#deliveries;
    const drops = this.#drops;
    const replayFrom = this.#replayFrom;
    const isNews = isCatchingUp && !this.#isCatchingUp && deliveries.length === 0;
    if (isNews && cursor !== null) {
      const flags = { isNote: true, isUnproven: false, isCatchingUp };
      deliveries.push({ ...cursor, batch: NOTHING_SAID.batch, ...flags });
    }
    const last = deliveries.length - 1;
    for (const [position, each] of deliveries.entries()) {
      const isOpen = position < last || isCatchingUp;
      if (isOpen) deliveries[position] = { ...each, isCatchingUp: true };
      this.#isCatchingUp = isOpen;
    }
    if (deliveries.length > 0) this.#deliveries = [];
    if (drops.length > 0) this.#drops = [];
    this.#replayFrom = null;
    return {
      deliveries: deliveries.length > 0 ? deliveries : NO_DELIVERIES,
      replayFrom,
      drops: drops.length > 0 ? drops : NO_DROPS,
    };
  }
}
