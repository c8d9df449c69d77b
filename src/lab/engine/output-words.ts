/**
 * What the simulated model says: 4,096 pseudo-words, chosen by the prompt alone, so that equal
 * prompts get equal answers (temperature 0). A word's token is the one that the tokenizer gives to
 * it behind a space, so an answer that comes back in the next turn has the same token ids and hits
 * the blocks that its decoding left.
 */
import { pieceToken } from "./piece-token.ts";

const ONSETS = ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"];
const VOWELS = ["a", "e", "i", "o"];
const WORDS = makeWords();
const TOKENS: Uint32Array = Uint32Array.from(WORDS, (word) => pieceToken(word, 0, word.length));
/** Where two words share a token the first is rendered; both lead back to that token. */
const WORD_OF_TOKEN: ReadonlyMap<number, string> = new Map(
  WORDS.map((word, index) => [TOKENS[index] ?? 0, word] as const).reverse(),
);

/** A number from the whole prompt; FNV-1a over token ids. */
export function sampleSeed(prompt: Uint32Array): number {
  let state = 0x811c9dc5;
  for (const token of prompt) state = Math.imul(state ^ token, 0x01000193);
  return state >>> 0;
}

/** The output token number `index`, from 0, of a prompt with this seed. */
export function sampleToken(seed: number, index: number): number {
  let mixed = Math.imul(seed ^ Math.imul(index + 1, 0x9e3779b1), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35);
  return TOKENS[(mixed >>> 13) % TOKENS.length] ?? 0;
}

/** Text of output tokens. A token that no answer contains becomes its number in angle brackets. */
export function detokenize(tokens: Iterable<number>): string {
  let text = "";
  for (const token of tokens) text += WORD_OF_TOKEN.get(token) ?? ` <${token}>`;
  return text;
}

/** A space and two syllables each. */
function makeWords(): readonly string[] {
  const syllables = ONSETS.flatMap((onset) => VOWELS.map((vowel) => onset + vowel));
  return syllables.flatMap((first) => syllables.map((second) => ` ${first}${second}`));
}
