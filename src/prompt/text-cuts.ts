/**
 * Where a text may be cut before it is tokenised: at added tokens, and only where the tokenizer's
 * configuration makes each piece independent of what stands beside it. Pure.
 *
 * Tokenizers take added tokens out of a text first and work on each piece between them by itself.
 * What could look beyond its piece is named in `cutObstacle`; a tokenizer with such a part, or with
 * a part that is not known here, is given the whole text.
 */
import { type Fields, isFields, listOrNull } from "./prompt-fields.ts";

export interface AddedToken {
  readonly content: string;
  readonly id: number;
}

export interface TextPart {
  readonly text: string;
  /** Of an added token; null: a piece of text before, between or behind them. */
  readonly id: number | null;
}

/** Pieces that a text is cut into; one that has more is given whole. */
const PIECES_MAX = 65_536;

/** Normalizers that change each piece by itself. */
const NORMALIZERS = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Replace", "StripAccents"];
/** Pre-tokenizers that split each piece by itself. */
const PRE_TOKENIZERS = ["ByteLevel", "Digits", "Split", "Punctuation", "Whitespace"];

/** Why texts of this tokenizer are not cut; null: they are. `tokenizer`: of tokenizer.json. */
export function cutObstacle(tokenizer: Fields, config: Fields): string | null {
  for (const added of addedTokens(tokenizer)) {
    const trait = ["lstrip", "rstrip", "single_word"].find((name) => added[name] === true);
    if (trait !== undefined) return `added token ${JSON.stringify(added["content"])} has ${trait}`;
    if (added["normalized"] === true && tokenizer["normalizer"] !== null) {
      return `added token ${JSON.stringify(added["content"])} is normalized`;
    }
  }
  for (const name of ["remove_space", "do_lowercase_and_remove_accent"]) {
    if (config[name] === true) return `${name} in tokenizer_config.json`;
  }
  const normalizer = steps(tokenizer["normalizer"], "normalizers").find(
    ({ type }) => !NORMALIZERS.includes(String(type)),
  );
  if (normalizer !== undefined) return `normalizer ${String(normalizer["type"])}`;
  const splitter = steps(tokenizer["pre_tokenizer"], "pretokenizers").find(
    (step) => step["add_prefix_space"] === true || !PRE_TOKENIZERS.includes(String(step["type"])),
  );
  if (splitter === undefined) return null;
  const prefix = splitter["add_prefix_space"] === true ? " with add_prefix_space" : "";
  return `pre-tokenizer ${String(splitter["type"])}${prefix}`;
}

export function addedTokensOf(tokenizer: Fields): AddedToken[] {
  return addedTokens(tokenizer).flatMap(({ content, id }) =>
    typeof content === "string" && content !== "" && typeof id === "number"
      ? [{ content, id }]
      : [],
  );
}

/**
 * Cuts a text at added tokens: of those that begin at one place the longest, from left to right.
 * `from`: where to begin, 0 or behind an added token.
 */
export function textCutter(
  added: readonly AddedToken[],
): (text: string, from: number) => TextPart[] {
  if (added.length === 0) return (text, from) => (from < text.length ? [piece(text, from)] : []);
  const idOf = new Map(added.map(({ content, id }) => [content, id]));
  const contents = [...idOf.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(contents.map(escaped).join("|"), "g");
  return (text, start) => {
    const parts: TextPart[] = [];
    let from = start;
    pattern.lastIndex = start;
    for (const { 0: content, index } of text.matchAll(pattern)) {
      if (parts.length >= PIECES_MAX) return [piece(text, start)];
      if (index > from) parts.push(piece(text, from, index));
      parts.push({ text: content, id: idOf.get(content) ?? 0 });
      from = index + content.length;
    }
    if (from < text.length) parts.push(piece(text, from));
    return parts;
  };
}

function piece(text: string, from: number, to?: number): TextPart {
  return { text: text.slice(from, to), id: null };
}

export function addedTokens(tokenizer: Fields): Fields[] {
  return (listOrNull(tokenizer["added_tokens"]) ?? []).filter(isFields);
}

/** A component, or the components of a sequence; `list`: the sequence's field. */
export function steps(component: unknown, list: string): Fields[] {
  if (!isFields(component)) return [];
  if (component["type"] !== "Sequence") return [component];
  return (listOrNull(component[list]) ?? []).flatMap((each) => steps(each, list));
}

export function escaped(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
