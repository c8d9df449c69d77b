/** Texts that the tokenizer library does not take apart as the engine's does. Pure. */
import { type Fields, isFields } from "./prompt-fields.ts";
import { addedTokens, escaped, steps } from "./text-cuts.ts";

export interface TextDoubt {
  /** Of a regular expression that finds what is in doubt. */
  readonly pattern: string;
  /** What is in doubt, for people. */
  readonly name: string;
}

/** `tokenizer`: of tokenizer.json. */
export function textDoubts(tokenizer: Fields): TextDoubt[] {
  const words = addedTokens(tokenizer).flatMap(({ single_word: isWord, content }) =>
    isWord === true && typeof content === "string" && content !== ""
      ? // It finds them within words as well.
        [{ pattern: escaped(content), name: `added token ${JSON.stringify(content)}, single_word` }]
      : [],
  );
  const { model } = tokenizer;
  const vocabulary = isFields(model) && isFields(model["vocab"]) ? model["vocab"] : {};
  const moved = addedTokens(tokenizer).find(
    ({ content, id }) =>
      typeof content === "string" &&
      Object.hasOwn(vocabulary, content) &&
      vocabulary[content] !== id,
  );
  if (moved !== undefined) {
    // The engine's then takes the vocabulary's id, and gives others to the added tokens behind it.
    const name = `added token ${JSON.stringify(moved["content"])}, by another id in the vocabulary`;
    words.push({ pattern: "", name });
  }
  const isSplit = steps(tokenizer["pre_tokenizer"], "pretokenizers").some(
    ({ type, use_regex: isRegex }) => type === "ByteLevel" && isRegex !== false,
  );
  // In its pattern white space is JavaScript's.
  const spaces = { pattern: "[\\x85\\ufeff]", name: "U+0085 or U+FEFF in pre-tokenizer ByteLevel" };
  return isSplit ? [...words, spaces] : words;
}
