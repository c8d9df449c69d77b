/** Cuts a child's output into lines and keeps the last of them for error messages. */

/** Lines kept. */
export const LINES_MAX = 40;
/** Characters of a line; what is beyond is dropped. */
export const LINE_CHARS_MAX = 2000;

export class OutputTail {
  readonly #onLine: (line: string) => void;
  readonly #lines: string[] = [];
  #partial = "";

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(text: string): void {
    const [first = "", ...rest] = text.split("\n");
    this.#partial = (this.#partial + first).slice(0, LINE_CHARS_MAX);
    for (const next of rest) {
      this.#end();
      this.#partial = next.slice(0, LINE_CHARS_MAX);
    }
  }

  /** The last lines, oldest first. */
  text(): string {
    const lines = this.#partial === "" ? this.#lines : [...this.#lines, this.#partial];
    return lines.slice(-LINES_MAX).join("\n");
  }

  #end(): void {
    const line = this.#partial.replace(/\r$/, "");
    this.#lines.push(line);
    if (this.#lines.length > LINES_MAX) this.#lines.shift();
    this.#onLine(line);
  }
}
