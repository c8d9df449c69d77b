/**
 * Messages of a capture put back into their order: what comes early is held until what belongs before it
 * has come, or so many more; then there is a gap. (A PUB socket keeps the order by itself.)
 *
 * What is late has its place only where it was not said later than what it goes before: otherwise it is of
 * another life, and what was held goes first. Pure: state in memory only, no clock.
 */
import { type EngineMessage, engineMsOf, ownMessage, type SequenceCursor } from "./sequence.ts";

/** Messages of one holder that are held, and how far behind a gap they may be. */
export const REORDER_MESSAGES_MAX = 16;
/** Their memory. */
export const REORDER_BYTES_MAX = 1_048_576;

export class ReorderWindow {
  /** By number. */
  #held: EngineMessage[] = [];

  get isHolding(): boolean {
    return this.#held.length > 0;
  }

  /** Takes a message; returns those whose turn it is, in order. */
  take(message: EngineMessage, cursor: SequenceCursor | null): readonly EngineMessage[] {
    const seqNext = (cursor?.seq ?? -1) + 1;
    const isEarly = message.seq > seqNext && message.seq <= seqNext + REORDER_MESSAGES_MAX;
    const isSaidBefore = isTimed(message) && engineMsOf(message) < (cursor?.engineMs ?? 0);
    if (!this.isHolding && (!isEarly || isSaidBefore)) return [message];
    const isRepeat = engineMsOf(message) <= (cursor?.engineMs ?? 0);
    if (message.seq < seqNext && isRepeat) return [message];
    if (message.seq < seqNext || !this.#isInPlace(message)) return [...this.flush(), message];
    this.#insert(message);
    return this.#ready(seqNext);
  }

  /** Gives up waiting: all that is held, in order. */
  flush(): readonly EngineMessage[] {
    const held = this.#held;
    this.#held = [];
    return held;
  }

  /** Whether it was said behind what is held before it, and before what is held behind it. */
  #isInPlace(message: EngineMessage): boolean {
    if (!isTimed(message)) return true;
    const engineMs = engineMsOf(message);
    return this.#held.every((each) => {
      if (!isTimed(each) || each.seq === message.seq) return true;
      return each.seq < message.seq ? engineMsOf(each) <= engineMs : engineMs <= engineMsOf(each);
    });
  }

  #insert(message: EngineMessage): void {
    const own = ownMessage(message);
    const at = this.#held.findIndex(({ seq }) => seq > own.seq);
    this.#held.splice(at === -1 ? this.#held.length : at, 0, own);
  }

  /** Those that go on where the cursor ends; all of them where they are too many. */
  #ready(seqNext: number): readonly EngineMessage[] {
    const bytes = this.#held.reduce((sum, each) => sum + (each.bytes ?? 0), 0);
    const last = this.#held.at(-1)?.seq ?? seqNext;
    const isFull = this.#held.length > REORDER_MESSAGES_MAX || bytes > REORDER_BYTES_MAX;
    let seq = seqNext;
    let count = 0;
    for (const each of this.#held) {
      if (each.seq > seq) break;
      if (each.seq === seq) seq += 1;
      count += 1;
    }
    if (count > 0) return this.#held.splice(0, count);
    return isFull || last > seqNext + REORDER_MESSAGES_MAX ? this.flush() : [];
  }
}

/** What cannot be decoded says no time. */
function isTimed({ batch }: EngineMessage): boolean {
  return batch !== null && batch.ts > 0;
}
