import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type TextPart, textCutter } from "./text-cuts.ts";
import { NO_START, TextStarts } from "./text-starts.ts";

/** One of them is another's beginning, and some run into each other. */
const ADDED = ["<a>", "<a>b", "b<", "ab"].map((content, id) => ({ content, id: id + 1000 }));
const ADDED_CHARS_MAX = 4;
const cut = textCutter(ADDED);
const OPTIONS = { bytesMax: 100_000, addedCharsMax: ADDED_CHARS_MAX, charsMin: 4 };

/** As many tokens as a piece has characters; those of an added token are its id. */
function tokensOf({ text, id }: TextPart): number[] {
  return id === null ? Array.from(text, (char) => char.charCodeAt(0)) : [id];
}

function added(starts: TextStarts, text: string): { tokens: Uint32Array; segments: number } {
  const start = starts.find(text);
  const parts = cut(text, start.chars);
  const lists = parts.map(tokensOf);
  const tokens = Uint32Array.from([...start.tokens, ...lists.flat()]);
  starts.add({ text, start, parts, lists, tokens });
  return { tokens, segments: start.segments + parts.filter(({ id }) => id === null).length };
}

describe("TextStarts", () => {
  it("leads to what cutting the whole text leads to, whatever was kept before", () => {
    const piece = fc.constantFrom("<a>", "<a>b", "b<", "ab", "a", "b", "<", ">", "<a", "\u00f6");
    const stem = fc.array(piece, { minLength: 2, maxLength: 30 });
    const texts = fc.tuple(
      stem,
      fc.array(fc.record({ kept: fc.nat(90), rest: fc.array(piece, { maxLength: 8 }) }), {
        minLength: 2,
        maxLength: 12,
      }),
    );
    let found = 0;
    fc.assert(
      fc.property(texts, ([stemPieces, turns]) => {
        const starts = new TextStarts(OPTIONS);
        for (const { kept, rest } of turns) {
          const text = stemPieces.join("").slice(0, kept) + rest.join("");
          const whole = cut(text, 0);
          if (starts.find(text).chars > 0) found += 1;
          const { tokens, segments } = added(starts, text);
          expect([...tokens]).toEqual(whole.flatMap(tokensOf));
          expect(segments).toBe(whole.filter(({ id }) => id === null).length);
        }
      }),
      { numRuns: 2000 },
    );
    expect(found).toBeGreaterThan(1000);
  });

  it("finds what two turns of a chat have in common, up to an added token", () => {
    const starts = new TextStarts(OPTIONS);
    const shared = "the system prompt<a>question<a>";
    added(starts, `${shared}assistant: yes<a>next`);
    const { chars, tokens, segments } = starts.find(
      `${shared}assistant: no<a>then a longer one<a>`,
    );
    expect(chars).toBe(shared.length);
    expect(tokens).toHaveLength("the system prompt?question?".length);
    expect(segments).toBe(2);
    expect(starts.find("a text that nothing is known of")).toBe(NO_START);
  });

  it("keeps no more than its bytes, those used last", () => {
    const starts = new TextStarts({ ...OPTIONS, bytesMax: 2000 });
    const text = (name: string): string => `${name.repeat(100)}<a>${name.repeat(10)}`;
    added(starts, text("x"));
    const entryBytes = starts.bytes;
    expect(entryBytes).toBeLessThan(1000);
    added(starts, text("y"));
    expect(starts.find(text("x")).chars).toBeGreaterThan(0);
    added(starts, text("z"));
    expect(starts.bytes).toBe(2 * entryBytes);
    expect(starts.find(text("y"))).toBe(NO_START);
    expect(starts.find(text("x")).chars).toBeGreaterThan(0);
    added(starts, "w".repeat(100_000));
    expect(starts.bytes).toBe(2 * entryBytes);
  });
});
