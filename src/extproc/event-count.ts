/**
 * Estimates the tokens of a streamed answer that passes by: one for each server-sent event whose
 * data is a JSON object.
 *
 * Engines send one such event per token. An engine that puts several tokens into an event (a stream
 * interval, speculative decoding) is counted low; events without text (role, usage) add a few. An
 * answer that is not streamed counts nothing: no line of JSON begins with `data:`.
 */

/** Events told together, so that most chunks tell nothing. */
export const EVENTS_BATCH = 16;

/** Events counted of one answer; the rest passes uncounted, which `isFull` tells. */
export const ANSWER_EVENTS_MAX = 1_048_576;

const PREFIX = Buffer.from("data:");
const LINE_FEED = 0x0a;
const SPACE = 0x20;
const BRACE = 0x7b;
/** Place in a line that cannot be, or already is, an event. */
const REST_OF_LINE = -1;

export class EventCount {
  /** Bytes of PREFIX that the line has so far, or REST_OF_LINE. */
  #matched = 0;
  #events = 0;
  #toldEvents = 0;

  get isFull(): boolean {
    return this.#events === ANSWER_EVENTS_MAX;
  }

  /**
   * Events to tell now: a multiple of EVENTS_BATCH, mostly 0. The sum over all chunks does not
   * depend on where they are cut. Costs O(bytes), and keeps none of them.
   */
  push(chunk: Uint8Array): number {
    let at = 0;
    while (at < chunk.length && this.#events < ANSWER_EVENTS_MAX) {
      if (this.#matched === REST_OF_LINE) {
        at = chunk.indexOf(LINE_FEED, at);
        if (at < 0) break;
      }
      this.#step(chunk[at] ?? 0);
      at += 1;
    }
    const news = this.#events - this.#toldEvents;
    const told = news - (news % EVENTS_BATCH);
    this.#toldEvents += told;
    return told;
  }

  #step(byte: number): void {
    if (byte === LINE_FEED) this.#matched = 0;
    else if (this.#matched < PREFIX.length) {
      this.#matched = byte === PREFIX[this.#matched] ? this.#matched + 1 : REST_OF_LINE;
    } else if (byte !== SPACE) {
      if (byte === BRACE) this.#events += 1;
      this.#matched = REST_OF_LINE;
    }
  }
}
