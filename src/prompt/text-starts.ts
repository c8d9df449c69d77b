/**
 * Texts that were cut and tokenised before, to find the one that a text begins like: a chat's next
 * turn is cut and hashed only behind what it has in common with the turn before.
 *
 * A long text is kept under its characters at the last power of two that it reaches. Whatever is
 * found there is compared character by character, so a place that two texts share costs a miss at
 * worst. Pure. Cost of a find: some 20 us for 220 KB.
 */
import { assert } from "../core/assert.ts";
import type { TextPart } from "./text-cuts.ts";

/** Shorter texts are cut and hashed as fast. */
const CHARS_MIN = 4096;
/** Characters by which a text is found. */
const PLACE_CHARS = 32;
/** Share of a text that has to be new for it to be kept in its turn: most turns are short. */
const NEW_SHARE_MIN = 1 / 16;
/** A character takes one byte or two, which cannot be seen. */
const BYTES_PER_CHAR = 2;
/** Numbers that are kept for an added token. */
const WORDS_PER_END = 3;

/** What needs no cutting and no tokenising: it ends behind an added token. */
export interface TextStart {
  readonly chars: number;
  /** Its token ids: a view. */
  readonly tokens: Uint32Array;
  /** Pieces of text in it. */
  readonly segments: number;
  /** For each added token in it: where it ends, and the token ids and pieces of text up to there. */
  readonly ends: Uint32Array;
}

interface Entry {
  /** Its own: that of another text would keep that text. */
  readonly place: string;
  readonly text: string;
  readonly tokens: Uint32Array;
  readonly ends: Uint32Array;
}

/** A text that was cut and tokenised behind a start that was known. */
export interface CutText {
  readonly text: string;
  readonly start: TextStart;
  readonly parts: readonly TextPart[];
  /** Token ids of each part. */
  readonly lists: readonly { readonly length: number }[];
  /** Of the whole text; kept as they are. */
  readonly tokens: Uint32Array;
}

export interface TextStartsOptions {
  readonly bytesMax: number;
  /** Characters of the longest added token. */
  readonly addedCharsMax: number;
  readonly charsMin?: number;
}

export const NO_START: TextStart = {
  ...{ chars: 0, tokens: new Uint32Array(0), segments: 0, ends: new Uint32Array(0) },
};

export class TextStarts {
  readonly #options: Required<TextStartsOptions>;
  /** By place; the least recently used come first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(options: TextStartsOptions) {
    this.#options = { charsMin: CHARS_MIN, ...options };
  }

  get bytes(): number {
    return this.#bytes;
  }

  find(text: string): TextStart {
    const { charsMin, addedCharsMax } = this.#options;
    for (let chars = powerWithin(text.length); chars >= charsMin; chars /= 2) {
      const place = placeOf(text, chars);
      const entry = this.#entries.get(place);
      if (entry === undefined || !isAlike(text, entry.text, 0, chars)) continue;
      this.#entries.delete(place);
      this.#entries.set(entry.place, entry);
      // Where an added token ended, a longer one may end in this text, beyond what is shared.
      return startOf(entry, sharedChars(text, entry.text, chars) - addedCharsMax);
    }
    return NO_START;
  }

  add(cut: CutText): void {
    const { text, start, tokens } = cut;
    const { charsMin, bytesMax } = this.#options;
    const newChars = text.length - start.chars;
    if (text.length < charsMin || newChars < NEW_SHARE_MIN * text.length) return;
    const place = placeOf(text, powerWithin(text.length));
    const entry = { place, text, tokens, ends: endsOf(cut) };
    if (bytesOf(entry) > bytesMax) return;
    this.#forget(place);
    this.#entries.set(place, entry);
    this.#bytes += bytesOf(entry);
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= bytesMax) return;
      this.#forget(oldest);
    }
  }

  #forget(place: string): void {
    const entry = this.#entries.get(place);
    if (entry === undefined) return;
    this.#entries.delete(place);
    this.#bytes -= bytesOf(entry);
  }
}

/** The last of the entry's added tokens that ends within `chars`. */
function startOf({ text, tokens, ends }: Entry, chars: number): TextStart {
  let count = 0;
  for (let step = powerWithin(ends.length); step >= 1; step /= 2) {
    const at = WORDS_PER_END * (count + step - 1);
    if (at < ends.length && (ends[at] ?? 0) <= chars) count += step;
  }
  if (count === 0) return NO_START;
  const [end = 0, tokenCount = 0, segments = 0] = ends.subarray(WORDS_PER_END * (count - 1));
  assert(end <= text.length, "an added token ends within its text", { end });
  return {
    ...{ chars: end, tokens: tokens.subarray(0, tokenCount), segments },
    ends: ends.subarray(0, WORDS_PER_END * count),
  };
}

function endsOf({ start, parts, lists }: CutText): Uint32Array {
  let { chars, segments } = start;
  let tokens = start.tokens.length;
  const ends = [...start.ends];
  for (const [i, { text, id }] of parts.entries()) {
    chars += text.length;
    tokens += lists[i]?.length ?? 0;
    if (id === null) segments += 1;
    else ends.push(chars, tokens, segments);
  }
  return Uint32Array.from(ends);
}

function placeOf(text: string, chars: number): string {
  return `${chars} ${text.slice(chars - PLACE_CHARS, chars)}`;
}

/** The largest power of two that is at most `most`; 0 for 0. */
function powerWithin(most: number): number {
  return most === 0 ? 0 : 2 ** Math.floor(Math.log2(most));
}

/** Slices are views, and are compared without a loop of ours. */
function isAlike(a: string, b: string, from: number, to: number): boolean {
  return a.slice(from, to) === b.slice(from, to);
}

/** Characters with which two texts begin alike; `known`: so many are. */
function sharedChars(a: string, b: string, known: number): number {
  let shared = known;
  let most = Math.min(a.length, b.length);
  while (shared < most) {
    const middle = Math.ceil((shared + most) / 2);
    if (isAlike(a, b, shared, middle)) shared = middle;
    else most = middle - 1;
  }
  return shared;
}

function bytesOf({ text, tokens, ends }: Entry): number {
  return BYTES_PER_CHAR * text.length + tokens.byteLength + ends.byteLength;
}
