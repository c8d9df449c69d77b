/**
 * JSON of engines: nesting is checked before it is parsed, and 64-bit integers keep all their bits.
 *
 * Before parsing, integers that a JavaScript number may not hold become strings with a mark. (A reviver
 * that sees the digits takes over 1 us for each value.) Cost: about 25 ns per byte.
 */
import { ok, type Result, refused } from "../core/result.ts";

const QUOTE = 0x22;
const MINUS = 0x2d;
const BACKSLASH = 0x5c;
/** Digits from which on a number may lose some, and those of 2^64. */
const INTEGER_DIGITS_MIN = 16;
const INTEGER_DIGITS_MAX = 20;
const MARK = "int:";
const MARKED = /^int:(-?\d{16,20})$/;

/** A value's integer, where `parseJson` marked one; null: it is none. */
export function markedInteger(value: string): bigint | null {
  const [, digits] = MARKED.exec(value) ?? [];
  return digits === undefined ? null : BigInt(digits);
}

/** Integers of 16 to 20 digits come as strings for `markedInteger`. */
export function parseJson(
  bytes: Uint8Array,
  limits: { readonly depthMax: number },
): Result<unknown, "not-json"> {
  const parts: Uint8Array[] = [];
  const open = new TextEncoder().encode(`"${MARK}`);
  const close = Uint8Array.of(QUOTE);
  let depth = 0;
  let isString = false;
  let copiedTo = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    if (isString && byte === BACKSLASH) at += 1;
    else if (byte === QUOTE) isString = !isString;
    else if (isString) continue;
    else if (byte === 0x5b || byte === 0x7b) depth += 1;
    else if (byte === 0x5d || byte === 0x7d) depth -= 1;
    else if (isDigit(byte) || byte === MINUS) {
      const end = endOfDigits(bytes, at + 1);
      if (isLongInteger(bytes, { start: at, end })) {
        parts.push(bytes.subarray(copiedTo, at), open, bytes.subarray(at, end), close);
        copiedTo = end;
      }
      at = end - 1;
    }
    if (depth > limits.depthMax) return refused("not-json", `nested over ${limits.depthMax} deep`);
  }
  parts.push(bytes.subarray(copiedTo));
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts));
    return ok(JSON.parse(text));
  } catch {
    // The parser's message would quote the text, which holds token ids.
    return refused("not-json", `${bytes.length} bytes that are no JSON text`);
  }
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

function endOfDigits(bytes: Uint8Array, from: number): number {
  let end = from;
  while (end < bytes.length && isDigit(bytes[end] ?? 0)) end += 1;
  return end;
}

/** Fractions, exponents and what is longer than 64 bits stay numbers, which no hash may be. */
function isLongInteger(
  bytes: Uint8Array,
  { start, end }: { readonly start: number; readonly end: number },
): boolean {
  const digits = end - start - (bytes[start] === MINUS ? 1 : 0);
  const next = bytes[end] ?? 0;
  const isFraction = next === 0x2e || next === 0x65 || next === 0x45;
  return digits >= INTEGER_DIGITS_MIN && digits <= INTEGER_DIGITS_MAX && !isFraction;
}
