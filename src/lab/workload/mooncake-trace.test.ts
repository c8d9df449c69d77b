import { describe, expect, it } from "vitest";
import { parseTrace, TRACE_BLOCK_TOKENS, traceTokens } from "./mooncake-trace.ts";

const LINE = '{"timestamp": 27, "input_length": 600, "output_length": 52, "hash_ids": [4, 9]}';

describe("mooncake trace", () => {
  it("reads requests in order of time, past empty lines", () => {
    const text = `${LINE}\n\n${LINE.replace("27", "3")}\n`;
    expect(parseTrace(text, "trace.jsonl")).toEqual([
      { atMs: 3, inputTokens: 600, outputTokens: 52, hashIds: [4, 9] },
      { atMs: 27, inputTokens: 600, outputTokens: 52, hashIds: [4, 9] },
    ]);
  });

  it.each([
    ["{", "is not JSON"],
    ["[]", "expected object"],
    [LINE.replace("27", '"27"'), "timestamp: "],
    [LINE.replace("600", "0"), "input_length: "],
    [LINE.replace("600", "1025"), "hash_ids has 2 ids, input_length 1025 asks for 3"],
    [LINE.replace("600", "512"), "hash_ids has 2 ids, input_length 512 asks for 1"],
    [LINE.replace("[4, 9]", "[4, -9]"), "hash_ids.1: "],
    [LINE.replace("[4, 9]", "4"), "hash_ids: "],
    [LINE.replace('"output_length": 52, ', ""), "output_length: "],
  ])("refuses %s with file and line", (line, detail) => {
    const parse = (): unknown => parseTrace(`${LINE}\n${line}\n`, "trace.jsonl");
    expect(parse).toThrowError(
      expect.objectContaining({
        code: "ERR_TRACE_INVALID",
        message: expect.stringMatching(/^trace\.jsonl:2: /),
      }),
    );
    expect(parse).toThrowError(detail);
  });

  it("refuses a file without requests", () => {
    expect(() => parseTrace("\n", "empty.jsonl")).toThrowError("empty.jsonl: has no requests");
  });

  it("gives equal ids equal tokens, other ids others, and cuts the last block", () => {
    const request = { atMs: 0, outputTokens: 1 };
    const a = traceTokens({ ...request, inputTokens: 600, hashIds: [4, 9] });
    const b = traceTokens({ ...request, inputTokens: 1024, hashIds: [4, 10] });
    expect(a.length).toBe(600);
    expect(a.slice(0, TRACE_BLOCK_TOKENS)).toEqual(b.slice(0, TRACE_BLOCK_TOKENS));
    expect(a.slice(TRACE_BLOCK_TOKENS)).not.toEqual(b.slice(TRACE_BLOCK_TOKENS, 600));
    expect(Math.max(...a, ...b)).toBeLessThan(128_000);
  });
});
