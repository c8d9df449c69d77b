import { describe, expect, it } from "vitest";
import { detokenize, sampleSeed, sampleToken } from "./output-words.ts";
import { pieceToken } from "./piece-token.ts";
import { SPECIAL_TOKENS, tokenizeChat, tokenizeText } from "./tokenizer.ts";

const id = (piece: string): number => pieceToken(piece, 0, piece.length);
const plain = (text: string): number[] => [...tokenizeText(text, { isBeginAdded: false })];

describe("tokenizeText", () => {
  it("cuts words with the space before them, signs, and runs of white space", () => {
    expect(plain("Hi there,  you")).toEqual(["Hi", " there", ",", "  ", "you"].map(id));
    expect(plain("abcdefghijkl\n")).toEqual(["abcdefghij", "kl", "\n"].map(id));
  });

  it("takes any text, and adds the first token on demand", () => {
    expect(plain("")).toEqual([]);
    expect(plain("\ud800\u4f60\u{1f600}").length).toBeGreaterThan(0);
    expect([...tokenizeText("a", { isBeginAdded: true })]).toEqual([128_000, id("a")]);
  });
});

describe("tokenizeChat", () => {
  it("renders the stated template, and a next turn extends it", () => {
    const { beginOfText, startHeader, endHeader, endOfTurn } = SPECIAL_TOKENS;
    const header = (role: string): number[] => [startHeader, id(role), endHeader, id("\n\n")];
    const question = { role: "user", content: "Why?", toolCalls: undefined };
    const first = tokenizeChat({
      messages: [question],
      tools: undefined,
      isGenerationPromptAdded: true,
    });
    expect([...first]).toEqual([
      beginOfText,
      ...header("user"),
      id("Why"),
      id("?"),
      endOfTurn,
      ...header("assistant"),
    ]);
    const seed = sampleSeed(first);
    const answer = Array.from({ length: 40 }, (_, index) => sampleToken(seed, index));
    const second = tokenizeChat({
      messages: [question, { role: "assistant", content: detokenize(answer), toolCalls: null }],
      tools: undefined,
      isGenerationPromptAdded: false,
    });
    expect([...second]).toEqual([...first, ...answer, endOfTurn]);
  });

  it("puts tools first", () => {
    const tokens = tokenizeChat({
      messages: [{ role: "user", content: "x", toolCalls: undefined }],
      tools: [{ type: "function" }],
      isGenerationPromptAdded: false,
    });
    expect([...tokens.subarray(0, 3)]).toEqual([128_000, SPECIAL_TOKENS.startHeader, id("tools")]);
  });
});

describe("sampleToken", () => {
  it("depends on the prompt and the position alone, and uses many words", () => {
    const seed = sampleSeed(Uint32Array.of(1, 2, 3));
    expect(sampleToken(seed, 5)).toBe(sampleToken(seed, 5));
    const words = new Set(Array.from({ length: 1000 }, (_, index) => sampleToken(seed, index)));
    expect(words.size).toBeGreaterThan(600);
  });
});
