/**
 * JSON of engines: nesting and the memory of its values are checked before it is parsed, and 64-bit
 * integers keep all their bits.
 *
 * Before parsing, integers that a JavaScript number may not hold become strings with a mark. (A reviver
 * that sees the digits takes over 1 us for each value.) Numbers with a fraction or an exponent, which no
 * field of an event has, become objects without fields: parsed, 1.0 could not be told from 1. Cost: about 25 ns per byte.
 */
import { ok, type Result, refused } from "../core/result.ts";

const QUOTE = 0x22;
const MINUS = 0x2d;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const COMMA = 0x2c;
const POINT = 0x2e;
const PLUS = 0x2b;
const ZERO = 0x30;
/** Digits from which on a number may lose some, and those of 2^64. */
const INTEGER_DIGITS_MIN = 16;
const INTEGER_DIGITS_MAX = 20;
const OPEN = '"int:';
const CLOSE = '"';
const NO_INTEGER = "{}";
const MARKS_BYTES = OPEN.length + CLOSE.length;
const MARKED = /^int:(-?\d{16,20})$/;

/** What V8 takes for a list or an object, for each of their values, and for a text beside it. */
const NEST_BYTES = 56;
const SLOT_BYTES = 8;
const TEXT_BYTES = 16;
/** A long integer with its mark. */
const MARKED_BYTES = 48;

interface Span {
  readonly start: number;
  readonly end: number;
}

/** A value's integer, where `parseJson` marked one; null: it is none. */
export function markedInteger(value: string): bigint | null {
  const [, digits] = MARKED.exec(value) ?? [];
  return digits === undefined ? null : BigInt(digits);
}

/**
 * Integers of 16 to 20 digits come as strings for `markedInteger`, fractions as {}. `heapBytesMax`: memory of the
 * values, beside two copies of the text.
 */
export function parseJson(
  bytes: Uint8Array,
  limits: { readonly depthMax: number; readonly heapBytesMax: number },
): Result<unknown, "not-json" | "oversized"> {
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  /** The text with its marks: null until there is one. */
  let marked: Buffer | null = null;
  let markedTo = 0;
  let depth = 0;
  let isString = false;
  let copiedTo = 0;
  let heapBytes = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    if (isString && byte === BACKSLASH) at += 1;
    else if (byte === QUOTE) {
      isString = !isString;
      if (isString) heapBytes += TEXT_BYTES;
    } else if (isString) continue;
    else if (byte === 0x5b || byte === 0x7b) {
      depth += 1;
      heapBytes += NEST_BYTES;
    } else if (byte === 0x5d || byte === 0x7d) depth -= 1;
    else if (byte === COLON || byte === COMMA) heapBytes += SLOT_BYTES;
    else if (isDigit(byte) || byte === MINUS) {
      const end = endOfDigits(bytes, at + 1);
      const numberEnd = endOfNumber(bytes, { start: at, end });
      if (numberEnd > end) {
        marked ??= Buffer.allocUnsafe(bytes.length + MARKS_BYTES * marksMax(bytes.length));
        markedTo += source.copy(marked, markedTo, copiedTo, at);
        markedTo += marked.write(NO_INTEGER, markedTo, "latin1");
        copiedTo = numberEnd;
        heapBytes += NEST_BYTES;
      } else if (isLongInteger(bytes, { start: at, end })) {
        marked ??= Buffer.allocUnsafe(bytes.length + MARKS_BYTES * marksMax(bytes.length));
        markedTo += source.copy(marked, markedTo, copiedTo, at);
        markedTo += marked.write(OPEN, markedTo, "latin1");
        markedTo += source.copy(marked, markedTo, at, end);
        markedTo += marked.write(CLOSE, markedTo, "latin1");
        copiedTo = end;
        heapBytes += MARKED_BYTES;
      }
      at = numberEnd - 1;
    }
    if (depth > limits.depthMax) return refused("not-json", `nested over ${limits.depthMax} deep`);
    if (heapBytes > limits.heapBytesMax) {
      return refused("oversized", `values of over ${limits.heapBytesMax} bytes of memory`);
    }
  }
  if (marked !== null) markedTo += source.copy(marked, markedTo, copiedTo);
  try {
    const text = new TextDecoder("utf-8", { fatal: true });
    return ok(JSON.parse(text.decode(marked?.subarray(0, markedTo) ?? bytes)));
  } catch {
    // The parser's message would quote the text, which holds token ids.
    return refused("not-json", `${bytes.length} bytes that are no JSON text`);
  }
}

function marksMax(bytes: number): number {
  return Math.ceil(bytes / INTEGER_DIGITS_MIN);
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

function endOfDigits(bytes: Uint8Array, from: number): number {
  let end = from;
  while (end < bytes.length && isDigit(bytes[end] ?? 0)) end += 1;
  return end;
}

/** What is longer than 64 bits stays a number, which no hash may be. */
function isLongInteger(bytes: Uint8Array, integer: Span): boolean {
  const digits = digitsOf(bytes, integer);
  return digits >= INTEGER_DIGITS_MIN && digits <= INTEGER_DIGITS_MAX;
}

function digitsOf(bytes: Uint8Array, { start, end }: Span): number {
  return end - start - (bytes[start] === MINUS ? 1 : 0);
}

/** Behind the fraction and the exponent that follow an integer; `end` where the parser takes neither. */
function endOfNumber(bytes: Uint8Array, integer: Span): number {
  const { end } = integer;
  const digits = digitsOf(bytes, integer);
  if (digits === 0 || (digits > 1 && bytes[end - digits] === ZERO)) return end;
  let after = end;
  if (bytes[after] === POINT) {
    after = endOfDigits(bytes, end + 1);
    if (after === end + 1) return end;
  }
  const letter = bytes[after];
  if (letter !== 0x65 && letter !== 0x45) return after;
  const sign = bytes[after + 1];
  const power = after + (sign === PLUS || sign === MINUS ? 2 : 1);
  const powerEnd = endOfDigits(bytes, power);
  return powerEnd === power ? end : powerEnd;
}
