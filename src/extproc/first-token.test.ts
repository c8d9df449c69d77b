import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FirstToken } from "./first-token.ts";

const event = (name: string, data: object): string =>
  `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
const data = (value: object): string => `data: ${JSON.stringify(value)}\n\n`;

/** Bytes that pass until the first token is told; -1: it never is. */
function seenAfter(text: string, chunkBytes: number): number {
  const first = new FirstToken();
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    if (first.push(bytes.subarray(at, at + chunkBytes))) return at + chunkBytes;
  }
  return -1;
}

const tools = Array.from({ length: 500 }, (_, n) => ({ name: `tool-${n}`, event: "event: x" }));
const CREATED =
  event("response.created", { response: { tools } }) +
  event("response.in_progress", { response: { tools } });

describe("the first token", () => {
  it.each([
    ["a whole answer", '{"choices": []}', ""],
    ["an answer in several lines", '{\n  "choices": []\n}', ""],
    ["a chat's stream", data({ choices: [] }) + data({ choices: [] }), ""],
    ["a stream that is kept alive", data({ choices: [] }), ": ping\n\n: ping\n\n"],
    ["a stream of /v1/responses", event("response.output_item.added", {}), CREATED],
    [
      "one with other line ends",
      event("response.output_text.delta", {}),
      CREATED.replaceAll("\n", "\r\n"),
    ],
    [
      "a stream of /v1/messages",
      event("content_block_start", {}),
      event("message_start", { message: { usage: { input_tokens: 3 } } }) + event("ping", {}),
    ],
    ["bytes of another kind", "\u001f\u008b\b", ""],
  ])("of %s is seen with its first byte, however the stream is cut", (_, text, prelude) => {
    const start = Buffer.byteLength(prelude);
    expect(seenAfter(prelude + text, 1 << 30)).toBe(1 << 30);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), (chunkBytes) => {
        const seen = seenAfter(`${prelude}${text}\n`, chunkBytes);
        // Of an event's name the whole line is needed.
        const line = Buffer.byteLength(text.split("\n", 1)[0] ?? "") + 1;
        expect(seen).toBeGreaterThan(start);
        expect(seen).toBeLessThan(start + line + chunkBytes);
      }),
      { numRuns: 50 },
    );
  });

  it("never comes in a stream that ends before it", () => {
    expect(seenAfter(CREATED, 100)).toBe(-1);
    expect(seenAfter("", 1)).toBe(-1);
    expect(seenAfter(": ping\n\n", 3)).toBe(-1);
  });

  it("is told once", () => {
    const first = new FirstToken();
    const chunk = Buffer.from(data({}));
    expect([first.push(chunk), first.push(chunk)]).toEqual([true, false]);
  });
});
