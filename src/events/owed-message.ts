/**
 * The latest message that a sequencer was shown and has not delivered, or has only in an epoch that it gave
 * up: until one as late is delivered, there is more to come. Pure.
 */
import { type EngineMessage, engineMsOf, type SequenceCursor } from "./sequence.ts";

type Shown = Pick<SequenceCursor, "seq" | "engineMs">;

interface Owed extends Shown {
  /** Time of the first message of its life, ms; null: it is not known. */
  readonly lifeStartMs: number | null;
}

export class OwedMessage {
  #owed: Owed | null = null;
  /** The same of the life that was delivered last. */
  #lifeStartMs: number | null = null;

  get isOpen(): boolean {
    return this.#owed !== null;
  }

  /** It was shown, and is dropped. */
  owe(message: EngineMessage): void {
    this.#owe({ seq: message.seq, engineMs: engineMsOf(message), lifeStartMs: null });
  }

  /** It was delivered, and its epoch is given up. */
  oweAgain({ seq, engineMs }: Shown): void {
    this.#owe({ seq, engineMs, lifeStartMs: this.#lifeStartMs });
  }

  /** It could not be read, so that its time is not known, and is of the life that begins, as it seems. */
  oweNumber(seq: number): void {
    this.#owe({ seq: seq - 1, engineMs: Number.POSITIVE_INFINITY, lifeStartMs: null });
  }

  /** Another connection stands: what could not be read before is not of the life that begins behind it. */
  connected(): void {
    if (this.#owed?.engineMs === Number.POSITIVE_INFINITY) this.#owed = null;
  }

  /**
   * A message is delivered. What is owed comes with it where it is as late, or has a later number of the same
   * life, and never where an answer begins another life.
   */
  delivered(message: EngineMessage, options: { readonly isFirstOfEpoch: boolean }): void {
    const { seq } = message;
    const engineMs = engineMsOf(message);
    const startBefore = options.isFirstOfEpoch ? null : this.#lifeStartMs;
    this.#lifeStartMs = seq === 0 && engineMs > 0 ? engineMs : startBefore;
    const owed = this.#owed;
    if (owed === null) return;
    const areKnown = owed.lifeStartMs !== null && this.#lifeStartMs !== null;
    const isOther = areKnown && owed.lifeStartMs !== this.#lifeStartMs;
    const isTold = (seq > owed.seq && !isOther) || !isLater(owed, { seq, engineMs });
    const isOver = isOther && seq === 0 && message.isAnswer === true;
    if (isTold || isOver) this.#owed = null;
  }

  #owe(owed: Owed): void {
    if (this.#owed === null || isLater(owed, this.#owed)) this.#owed = owed;
  }
}

function isLater(shown: Shown, than: Shown): boolean {
  return shown.engineMs === than.engineMs ? shown.seq > than.seq : shown.engineMs > than.engineMs;
}
