/**
 * Parses a chat template. The library's parser knows no tuple of one item, of none, or with a comma at its
 * end: such parentheses become calls of a function of ours.
 */
import { parse, tokenize } from "@huggingface/jinja";

/** Function that makes a tuple of its arguments. */
export const TUPLE_NAME = "the tuple";

type Token = ReturnType<typeof tokenize>[number];
type Parsed = ReturnType<typeof parse>;

/** Names after which parentheses are no call. */
const KEYWORDS = ["in", "if", "elif", "else", "and", "or", "not", "is"];
/** Behind a value of these kinds parentheses are a call. */
const VALUES = [
  ...["Identifier", "StringLiteral", "NumericLiteral"],
  ...["CloseParen", "CloseSquareBracket", "CloseCurlyBracket"],
];

/** Throws where the text is no Jinja that is understood. */
export function parsedTemplate(text: string): Parsed {
  return parse(withTuples(tokenize(text, { lstrip_blocks: true, trim_blocks: true })));
}

function withTuples(tokens: readonly Token[]): Token[] {
  const made: Token[] = [];
  /** Places in `made` of the parentheses that are open. */
  const open: number[] = [];
  for (const token of tokens) {
    if (token.type === "OpenParen") open.push(made.length);
    const start = token.type === "CloseParen" ? open.pop() : undefined;
    const last = made.at(-1);
    if (start !== undefined && !isCall(made[start - 1]) && last !== undefined) {
      const isEmpty = made.length === start + 1;
      // Of a call's arguments the parser takes a comma at the end.
      if (isEmpty || last.type === "Comma") {
        made.splice(start, 0, { value: TUPLE_NAME, type: "Identifier" });
      }
    }
    made.push(token);
  }
  return made;
}

function isCall(before: Token | undefined): boolean {
  if (before === undefined || !VALUES.includes(before.type)) return false;
  return before.type !== "Identifier" || !KEYWORDS.includes(before.value);
}
