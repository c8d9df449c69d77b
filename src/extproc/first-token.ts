/**
 * Finds the first token in an answer that passes by.
 *
 * It is the first byte, but for streams that begin before anything is generated: /v1/responses tells at
 * once that the answer was created, /v1/messages that a message starts.
 */

/** Server-sent events that come before any token. */
const PRELUDE: ReadonlySet<string> = new Set([
  ...["response.created", "response.queued", "response.in_progress", "message_start", "ping"],
]);
const EVENT = "event:";
const DATA = "data:";
const COMMENT = ":";
/** Characters of a line that tell what it is. */
const LINE_HEAD_CHARS = 64;
const LINE_FEED = 0x0a;

export class FirstToken {
  #isSeen = false;
  #isInPrelude = false;
  /** Beginning of the line that is under way. */
  #line = "";

  /** True once, with the chunk that has it. What comes behind it costs nothing. */
  push(chunk: Uint8Array): boolean {
    if (this.#isSeen) return false;
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    let at = 0;
    while (at < bytes.length && !this.#isSeen) {
      const found = bytes.indexOf(LINE_FEED, at);
      const end = found === -1 ? bytes.length : found;
      const room = LINE_HEAD_CHARS - this.#line.length;
      this.#line += bytes.toString("latin1", at, Math.min(end, at + room));
      const isWhole = found !== -1 || this.#line.length === LINE_HEAD_CHARS;
      this.#isSeen = isWhole ? this.#onLine(this.#line.trim()) : isElse(this.#line);
      if (found !== -1) this.#line = "";
      at = end + 1;
    }
    return this.#isSeen;
  }

  /** Whether a line has a token, or announces one. */
  #onLine(line: string): boolean {
    if (line === "") {
      this.#isInPrelude = false;
      return false;
    }
    if (line.startsWith(EVENT)) {
      this.#isInPrelude = PRELUDE.has(line.slice(EVENT.length).trim());
      return !this.#isInPrelude;
    }
    return !line.startsWith(COMMENT) && !(this.#isInPrelude && line.startsWith(DATA));
  }
}

/** Whether what there is of a line belongs to no stream of events: a whole answer, or part of one. */
function isElse(line: string): boolean {
  const text = line.trim();
  if (text === "" || text.startsWith(COMMENT)) return false;
  return ![EVENT, DATA].some((name) => name.startsWith(text) || text.startsWith(name));
}
