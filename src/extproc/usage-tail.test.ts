import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TAIL_BYTES_MAX, UsageTail } from "./usage-tail.ts";

const usage = {
  prompt_tokens: 120,
  total_tokens: 150,
  completion_tokens: 30,
  prompt_tokens_details: { cached_tokens: 96 },
};
const expected = { promptTokens: 120, cachedTokens: 96, completionTokens: 30 };

function readOf(text: string, chunkBytes = 1000): ReturnType<UsageTail["read"]> {
  const tail = new UsageTail();
  const bytes = Buffer.from(text);
  for (let start = 0; start < bytes.length; start += chunkBytes) {
    tail.push(bytes.subarray(start, start + chunkBytes));
  }
  return tail.read();
}

describe("UsageTail", () => {
  it("reads a JSON answer", () => {
    expect(readOf(JSON.stringify({ id: "a", choices: [], usage }))).toEqual(expected);
  });

  it("reads the last events of a stream", () => {
    const token = `data: ${JSON.stringify({ choices: [{ text: "x" }], usage: null })}\n\n`;
    const last = `data: ${JSON.stringify({ choices: [], usage })}\r\n\r\ndata: [DONE]\n\n`;
    expect(readOf(token.repeat(2000) + last)).toEqual(expected);
  });

  it("reads a JSON answer whose beginning is beyond the tail", () => {
    const text = `"usage": {"prompt_tokens": 1} `.repeat(2000);
    const answer = JSON.stringify({ choices: [{ text }], usage, trailing: { a: 1 } });
    expect(answer.length).toBeGreaterThan(TAIL_BYTES_MAX);
    expect(readOf(answer)).toEqual(expected);
  });

  it("gives null for the counts that an engine leaves out", () => {
    expect(readOf(JSON.stringify({ usage: { prompt_tokens: 3 } }))).toEqual({
      promptTokens: 3,
      cachedTokens: null,
      completionTokens: null,
    });
  });

  it.each([
    ["nothing", ""],
    ["text", "hello"],
    ["an error", '{"error":{"message":"no"}}'],
    ["a null usage", '{"usage":null}'],
    ["counts that are no counts", '{"usage":{"prompt_tokens":-1}}'],
    ["a usage object without end", `${"x".repeat(20_000)}"usage": {${"}".repeat(1000)}`],
  ])("gives null for %s", (_, text) => {
    expect(readOf(text)).toBeNull();
  });

  it("does not depend on the chunking", () => {
    const text = `${"y".repeat(40_000)}\ndata: ${JSON.stringify({ usage })}\n\n`;
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60_000 }), (chunkBytes) => {
        expect(readOf(text, chunkBytes)).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });
});
