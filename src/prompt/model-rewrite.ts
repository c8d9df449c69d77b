/**
 * Another model name in a request's body: the one change of bytes that a router may be asked for. All
 * other bytes stay as they are. Pure.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const BRACE = 0x7b;
const OPENING = new Set([BRACE, 0x5b]);
const CLOSING = new Set([0x7d, 0x5d]);
const SPACES = new Set([0x20, 0x09, 0x0a, 0x0d]);
const KEY = '"model"';
/** Longest text of the key: each of its characters escaped. */
const ESCAPED_KEY_BYTES = 2 + 5 * "\\u006d".length;
/** What a body may begin with, U+FEFF in UTF-8. */
const BYTE_ORDER_MARK = Buffer.from("\ufeff");

/** By these a gateway asks for another name, as llm-d has it; the first that is there counts. */
const REWRITE_HEADERS = ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"] as const;

/** A model's name in the place of another; null: that one stays. */
export type Rename = (name: string) => string | null;

/**
 * What is asked for: the header's name in the place of any, else those of `rewrites`, by the names that
 * clients use. Null: nothing is. `headers`: names in lower case.
 */
export function renameOf(
  headers: ReadonlyMap<string, string>,
  rewrites: ReadonlyMap<string, string>,
): Rename | null {
  const header = REWRITE_HEADERS.find((name) => (headers.get(name) ?? "") !== "");
  const asked = header === undefined ? null : (headers.get(header) ?? null);
  if (asked !== null) return (name) => (name === asked ? null : asked);
  return rewrites.size === 0 ? null : (name): string | null => rewrites.get(name) ?? null;
}

/** Null: the body stays as it is. Cost: O(bytes). */
export function rewriteModel(body: Uint8Array, rename: Rename): Buffer | null {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  const pieces: Buffer[] = [];
  let copiedTo = 0;
  for (const { start, end } of modelValues(bytes)) {
    const name = rename(stringOf(bytes.subarray(start, end)));
    if (name === null) continue;
    pieces.push(bytes.subarray(copiedTo, start), Buffer.from(JSON.stringify(name)));
    copiedTo = end;
  }
  return pieces.length === 0 ? null : Buffer.concat([...pieces, bytes.subarray(copiedTo)]);
}

/**
 * Places of the strings that the body's object has under the key; of several the last counts. None in
 * what is no object, such as a form with files.
 */
function modelValues(bytes: Buffer): { readonly start: number; readonly end: number }[] {
  const values: { start: number; end: number }[] = [];
  const isMarked = bytes.subarray(0, BYTE_ORDER_MARK.length).equals(BYTE_ORDER_MARK);
  const first = afterSpaces(bytes, isMarked ? BYTE_ORDER_MARK.length : 0);
  if (bytes[first] !== BRACE) return values;
  let depth = 0;
  for (let at = first; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    if (OPENING.has(byte)) depth += 1;
    else if (CLOSING.has(byte)) depth -= 1;
    if (depth === 0) break;
    if (byte !== QUOTE) continue;
    const end = stringEnd(bytes, at);
    const value = depth === 1 && isKey(bytes, at, end) ? afterColon(bytes, end) : null;
    at = end - 1;
    if (value === null || bytes[value] !== QUOTE) continue;
    at = stringEnd(bytes, value) - 1;
    values.push({ start: value, end: at + 1 });
  }
  return values;
}

function isKey(bytes: Buffer, start: number, end: number): boolean {
  if (end - start < KEY.length || end - start > ESCAPED_KEY_BYTES) return false;
  const text = bytes.subarray(start, end);
  if (!text.includes(BACKSLASH)) return text.toString("latin1") === KEY;
  return stringOf(text) === "model";
}

/** Behind the closing quote of the string that opens at `start`. */
function stringEnd(bytes: Buffer, start: number): number {
  for (let at = start + 1; at < bytes.length; at += 1) {
    if (bytes[at] === BACKSLASH) at += 1;
    else if (bytes[at] === QUOTE) return at + 1;
  }
  return bytes.length;
}

/** Where the value begins; null: the string was no key. */
function afterColon(bytes: Buffer, end: number): number | null {
  const colon = afterSpaces(bytes, end);
  return bytes[colon] === COLON ? afterSpaces(bytes, colon + 1) : null;
}

function afterSpaces(bytes: Buffer, start: number): number {
  let at = start;
  while (SPACES.has(bytes[at] ?? 0)) at += 1;
  return at;
}

/** Empty for what is no JSON string. */
function stringOf(text: Buffer): string {
  try {
    return String(JSON.parse(text.toString("utf8")));
  } catch {
    return "";
  }
}
