/**
 * Reads a capture message by message: lines end with a line feed alone, as text may hold whatever else
 * ends lines elsewhere. Holds one line at a time.
 */
import { createReadStream } from "node:fs";
import { KvError, messageOf } from "../core/errors.ts";
import type { Result } from "../core/result.ts";
import { refused } from "../core/result.ts";
import { type CapturedMessage, parseCaptureLine } from "../events/capture.ts";

/** Characters of a line: the largest message that a socket takes, in hex, and as much again. */
export const LINE_CHARS_MAX = 134_217_728;
/** Some editors begin a file with it. */
const BYTE_ORDER_MARK = "\ufeff";

/**
 * Ends with the file, or with the first line that is no message, whose place the refusal names. Throws
 * KvError ERR_CAPTURE_INVALID for a file that cannot be read.
 */
export async function* readCapture(
  file: string,
): AsyncGenerator<Result<CapturedMessage, "capture-line">> {
  let lineNumber = 0;
  try {
    for await (const line of linesOf(file)) {
      lineNumber += 1;
      const text = lineNumber === 1 && line !== null ? withoutMark(line) : line;
      if (text?.trim() === "") continue;
      const message =
        text === null
          ? refused("capture-line", `a line of over ${LINE_CHARS_MAX} characters`)
          : parseCaptureLine(text);
      yield message.ok
        ? message
        : refused(message.reason, `${file}:${lineNumber}: ${message.detail}`);
      if (!message.ok) return;
    }
  } catch (cause) {
    throw new KvError("ERR_CAPTURE_INVALID", `${file}: ${messageOf(cause)}`, { cause });
  }
}

export function withoutMark(text: string): string {
  return text.startsWith(BYTE_ORDER_MARK) ? text.slice(BYTE_ORDER_MARK.length) : text;
}

/** Null: one that is too long; the rest of the file is not read. */
async function* linesOf(file: string): AsyncGenerator<string | null> {
  let parts: string[] = [];
  let chars = 0;
  for await (const chunk of createReadStream(file, "utf8")) {
    const lines = String(chunk).split("\n");
    for (const [at, part] of lines.entries()) {
      if (at > 0) {
        yield parts.join("");
        parts = [];
        chars = 0;
      }
      parts.push(part);
      chars += part.length;
      if (chars <= LINE_CHARS_MAX) continue;
      yield null;
      return;
    }
  }
  yield parts.join("");
}
