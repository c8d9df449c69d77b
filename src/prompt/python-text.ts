/** What Python's `str` does otherwise than JavaScript's strings. Pure; positions are code points. */

// Patterns with control characters are written as text: in a literal they are taken for mistakes.

/** Characters that `str.isspace` knows: without U+FEFF, with U+001C to U+001F and U+0085. */
const SPACES =
  "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SPACE_BEFORE = new RegExp(`^[${SPACES}]+`);
const SPACE_BEHIND = new RegExp(`[${SPACES}]$`);
const WORD = new RegExp(`[^${SPACES}]+`, "g");
/** Where `str.splitlines` ends a line. */
const LINE_ENDS = "\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029";
const LINE_END = new RegExp(`\\r\\n|[${LINE_ENDS}]`);
/** Where the filter `title` begins a word; `str.title` begins one behind whatever is no letter. */
const TITLE_BORDER = new RegExp(`([-${SPACES}({[<]+)`);
const CASED_RUN = /[\p{Lowercase}\p{Uppercase}\p{Lt}]+/gu;
const UNPRINTABLE = /[\\\p{C}\p{Z}]/gu;

export type StripSide = "both" | "left" | "right";

/** `str.strip`: of each character in `chars`; null: of white space. */
export function strip(text: string, chars: string | null, side: StripSide = "both"): string {
  if (chars === null) return stripSpace(text, side);
  const set = new Set(chars);
  const points = [...text];
  let from = 0;
  let to = points.length;
  if (side !== "right") while (from < to && set.has(points[from] ?? "")) from += 1;
  if (side !== "left") while (to > from && set.has(points[to - 1] ?? "")) to -= 1;
  return from === 0 && to === points.length ? text : points.slice(from, to).join("");
}

function stripSpace(text: string, side: StripSide): string {
  const begun = side === "right" ? text : text.replace(SPACE_BEFORE, "");
  if (side === "left") return begun;
  // Not by one pattern: it would look at each run of spaces in the text to its end.
  let to = begun.length;
  while (to > 0 && SPACE_BEHIND.test(begun[to - 1] ?? "")) to -= 1;
  return begun.slice(0, to);
}

/** `str.split`; `separator` null: at white space. `times` < 0: as often as it is there. */
export function split(text: string, separator: string | null, times: number): string[] {
  if (separator !== null) {
    const parts = text.split(separator);
    if (times < 0 || parts.length <= times + 1) return parts;
    return [...parts.slice(0, times), parts.slice(times).join(separator)];
  }
  const words: string[] = [];
  for (const { 0: word, index } of text.matchAll(WORD)) {
    if (times >= 0 && words.length >= times) return [...words, text.slice(index)];
    words.push(word);
  }
  return words;
}

/** `str.capitalize`, and the filter. */
export function capitalize(text: string): string {
  const [first = ""] = text;
  return titled(first) + text.slice(first.length).toLowerCase();
}

/** `str.title`. */
export function title(text: string): string {
  return text.replaceAll(CASED_RUN, capitalize);
}

/** The filter `title`. */
export function titleWords(text: string): string {
  return text
    .split(TITLE_BORDER)
    .map((word) => {
      const [first = ""] = word;
      return first.toUpperCase() + word.slice(first.length).toLowerCase();
    })
    .join("");
}

/** The filter `indent`. */
export function indent(
  text: string,
  { before, isFirst, isBlank }: { before: string; isFirst: boolean; isBlank: boolean },
): string {
  const lines = text.split(LINE_END);
  return lines
    .map((line, at) => ((at === 0 ? isFirst : isBlank || line !== "") ? before + line : line))
    .join("\n");
}

export function lengthOf(text: string): number {
  let length = 0;
  for (const _ of text) length += 1;
  return length;
}

/** A list's items from `start` to before `stop`, in steps, as `list[start:stop:step]` gives them. */
export function sliced<Item>(
  items: readonly Item[],
  { start, stop, step }: { start: number | null; stop: number | null; step: number },
): Item[] {
  const { length } = items;
  const [first, last] = step > 0 ? [0, length] : [-1, length - 1];
  const place = (at: number | null, otherwise: number): number =>
    at === null ? otherwise : Math.min(Math.max(at < 0 ? at + length : at, first), last);
  const from = place(start, step > 0 ? first : last);
  const to = place(stop, step > 0 ? last : first);
  const found: Item[] = [];
  for (let at = from; step > 0 ? at < to : at > to; at += step) {
    const item = items[at];
    if (item !== undefined) found.push(item);
  }
  return found;
}

/** `repr` of a string. */
export function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replaceAll(UNPRINTABLE, escapedPoint);
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

const ESCAPES: Readonly<Record<string, string>> = {
  ...{ " ": " ", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" },
};

function escapedPoint(point: string): string {
  const known = ESCAPES[point];
  if (known !== undefined) return known;
  const code = point.codePointAt(0) ?? 0;
  const hex = code.toString(16);
  if (code <= 0xff) return `\\x${hex.padStart(2, "0")}`;
  return code <= 0xffff ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}

/** Letters that are two, of which a title's beginning has only the first in upper case. */
const DIGRAPHS: Readonly<Record<string, string>> = {
  ...{ "\u01c4": "\u01c5", "\u01c7": "\u01c8", "\u01ca": "\u01cb", "\u01f1": "\u01f2" },
};

/** First letter as at a title's beginning, of which "\u00df" has two. */
function titled(first: string): string {
  const [upper = "", ...rest] = first.toUpperCase();
  return (DIGRAPHS[upper] ?? upper) + rest.join("").toLowerCase();
}
