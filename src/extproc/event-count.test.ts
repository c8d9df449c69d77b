import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ANSWER_EVENTS_MAX, EVENTS_BATCH, EventCount } from "./event-count.ts";

const event = 'data: {"choices":[{"text":"x"}]}\n\n';

function told(chunks: readonly string[]): number {
  const count = new EventCount();
  return chunks.reduce((sum, chunk) => sum + count.push(Buffer.from(chunk)), 0);
}

/** The events of a whole text, in whole batches, by lines. */
function expectedOf(text: string): number {
  const events = text.split("\n").filter((line) => /^data: *\{/.test(line)).length;
  return Math.floor(events / EVENTS_BATCH) * EVENTS_BATCH;
}

describe("EventCount", () => {
  it("tells a batch with the event that fills it", () => {
    const count = new EventCount();
    const answers = Array.from({ length: 2 * EVENTS_BATCH }, () => count.push(Buffer.from(event)));
    expect(answers.flatMap((each, at) => (each === 0 ? [] : [[at + 1, each]]))).toEqual([
      [EVENTS_BATCH, EVENTS_BATCH],
      [2 * EVENTS_BATCH, EVENTS_BATCH],
    ]);
  });

  it("tells all batches of a chunk at once", () => {
    expect(told([event.repeat(1000)])).toBe(992);
  });

  it.each([
    ["the end mark", "data: [DONE]\n\n"],
    ["an event without data", "data:\n\n"],
    ["a comment", ": ping {\n\n"],
    ["another field", "event: data: {\n\n"],
    ["indented text", " data: {\n\n"],
    ["a JSON answer", `${JSON.stringify({ choices: [{ text: "\ndata: {" }] })}\n`],
    ["a JSON answer in lines", `${JSON.stringify({ data: { a: [] } }, null, 2)}\n`],
  ])("counts nothing for %s", (_, text) => {
    expect(told([text.repeat(100)])).toBe(0);
  });

  it.each([
    ["without a space", "data:{}\n\n"],
    ["with carriage returns", "data: {}\r\n\r\n"],
    ["after its name", "event: content_block_delta\ndata: {}\n\n"],
  ])("counts events %s", (_, text) => {
    expect(told([text.repeat(EVENTS_BATCH)])).toBe(EVENTS_BATCH);
  });

  it("stops at its limit, whatever else comes", () => {
    const chunk = "data:{\n".repeat(ANSWER_EVENTS_MAX / 4);
    expect(told(Array(6).fill(chunk))).toBe(ANSWER_EVENTS_MAX);
  });

  it("does not depend on where the chunks are cut", () => {
    const piece = fc.constantFrom(
      event,
      "data:",
      " ",
      "{",
      "\n",
      "\r",
      "d",
      "da",
      "data: {}\n",
      "x",
    );
    fc.assert(
      fc.property(
        fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant("data: {}\n") }, piece), {
          minLength: 20,
          maxLength: 200,
        }),
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 50 }),
        (pieces, sizes) => {
          const text = pieces.join("");
          const chunks: string[] = [];
          let rest = text;
          for (const size of sizes) {
            chunks.push(rest.slice(0, size));
            rest = rest.slice(size);
          }
          expect(told([...chunks, rest])).toBe(expectedOf(text));
        },
      ),
      { numRuns: 500 },
    );
  });
});
