import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CompletionStream } from "./completion-stream.ts";

const EVENTS = [
  'data: {"choices":[{"text":" a"}]}\n\n',
  'data: {"choices":[],"usage":{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":8}}}\n\n',
  "data: [DONE]\n\n",
].join("");

describe("completion stream", () => {
  it("reads first token, usage and end however the text is cut", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: EVENTS.length })), (cuts) => {
        const stream = new CompletionStream();
        const places = [0, ...cuts.toSorted((a, b) => a - b), EVENTS.length];
        for (const [index, start] of places.entries()) {
          stream.push(EVENTS.slice(start, places[index + 1] ?? start));
        }
        expect(stream.hasToken).toBe(true);
        expect(stream.isDone).toBe(true);
        expect(stream.usage).toEqual({ promptTokens: 10, cachedTokens: 8 });
      }),
    );
  });

  it("takes nonsense as no usage", () => {
    const stream = new CompletionStream();
    stream.push('nonsense\ndata: {"usage":{\ndata: {"usage":{"prompt_tokens":"x"}}\n');
    expect(stream.usage).toBeNull();
    expect(stream.isDone).toBe(false);
  });
});
