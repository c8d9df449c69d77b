/**
 * The latest message that a sequencer was shown and has not delivered, or has only in an epoch that it gave
 * up: until one as late is delivered, there is more to come. Pure.
 */
import { type EngineMessage, engineMsOf, type SequenceCursor } from "./sequence.ts";

type Shown = Pick<SequenceCursor, "seq" | "engineMs">;

export class OwedMessage {
  #owed: Shown | null = null;
  /** Time of the first message of the life that was delivered last, ms; null: it is not known. */
  #lifeStartMs: number | null = null;

  get isOpen(): boolean {
    return this.#owed !== null;
  }

  owe(message: EngineMessage): void {
    this.oweAt({ seq: message.seq, engineMs: engineMsOf(message) });
  }

  oweAt(shown: Shown): void {
    if (this.#owed === null || isLater(shown, this.#owed)) this.#owed = shown;
  }

  /**
   * A message is delivered. What is owed comes with it where it is as late, and never where an answer begins a
   * life with another first message than the one known.
   */
  delivered(message: EngineMessage, options: { readonly isFirstOfEpoch: boolean }): void {
    const { seq } = message;
    const engineMs = engineMsOf(message);
    const owed = this.#owed;
    const isTold = owed !== null && (seq > owed.seq || !isLater(owed, { seq, engineMs }));
    const isOther = seq === 0 && this.#lifeStartMs !== null && engineMs !== this.#lifeStartMs;
    if (isTold || (isOther && message.isAnswer === true)) this.#owed = null;
    if (seq === 0) this.#lifeStartMs = engineMs > 0 ? engineMs : null;
    else if (options.isFirstOfEpoch) this.#lifeStartMs = null;
  }
}

function isLater(shown: Shown, than: Shown): boolean {
  return shown.engineMs === than.engineMs ? shown.seq > than.seq : shown.engineMs > than.engineMs;
}
