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

  const counted = {
    ...{ input_tokens: 120, output_tokens: 30, total_tokens: 150 },
    input_tokens_details: { cached_tokens: 96 },
  };
  const events = (...list: readonly object[]): string =>
    list.map((each) => `event: x\ndata: ${JSON.stringify(each)}\n\n`).join("");

  it("reads the answers of /v1/responses, whole, streamed, and longer than the tail", () => {
    expect(readOf(JSON.stringify({ object: "response", output: [], usage: counted }))).toEqual(
      expected,
    );
    for (const text of ["short", '"usage": {"input_tokens": 9} '.repeat(2000)]) {
      const output = [{ type: "message", content: [{ type: "output_text", text }] }];
      const response = { output, usage: counted, user: null };
      const begun = { type: "response.created", response: { output: [], usage: null } };
      const token = { type: "response.output_text.delta", delta: "x" };
      const ended = { type: "response.completed", response, sequence_number: 9 };
      expect(readOf(events(begun, token, token, ended), 777)).toEqual(expected);
    }
  });

  it("reads the answers of /v1/messages, where the engine may not tell what was cached", () => {
    const said = { input_tokens: 120, output_tokens: 30 };
    const unknown = { ...expected, cachedTokens: null };
    expect(readOf(JSON.stringify({ type: "message", content: [], usage: said }))).toEqual(unknown);
    const begun = { type: "message_start", message: { usage: { ...said, output_tokens: 0 } } };
    const ended = { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: said };
    const stream = events(begun, ended, { type: "message_stop" });
    expect(readOf(stream)).toEqual(unknown);
    const cached = { ...said, input_tokens: 24, cache_read_input_tokens: 96 };
    expect(readOf(JSON.stringify({ usage: cached }))).toEqual(expected);
    const all = { ...said, input_tokens: 0, cache_read_input_tokens: 120 };
    expect(readOf(JSON.stringify({ usage: all }))).toEqual({ ...expected, cachedTokens: 120 });
    const created = { ...cached, input_tokens: 14, cache_creation_input_tokens: 10 };
    expect(readOf(JSON.stringify({ usage: created }))).toEqual(expected);
  });

  it("reads the answers of SGLang's /generate", () => {
    const meta_info = {
      ...{ id: "a", finish_reason: { type: "length", length: 30 }, prompt_tokens: 120 },
      ...{ completion_tokens: 30, cached_tokens: 96, e2e_latency: 0.5 },
    };
    expect(readOf(JSON.stringify({ text: "x", meta_info }))).toEqual(expected);
    expect(readOf(JSON.stringify({ text: "x".repeat(20_000), meta_info }))).toEqual(expected);
    const early = { ...meta_info, completion_tokens: 1, finish_reason: null };
    const stream = events({ text: "x", meta_info: early }, { text: "xy", meta_info });
    expect(readOf(`${stream}data: [DONE]\n\n`)).toEqual(expected);
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
    ["zeros", '{"usage":{"input_tokens":0,"input_tokens_details":{"cached_tokens":0}}}'],
    ["a batch, whose prompts are not told apart", '[{"meta_info":{"prompt_tokens":3}}]'],
    [
      "more cached than there is",
      '{"usage":{"prompt_tokens":64,"prompt_tokens_details":{"cached_tokens":65}}}',
    ],
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
