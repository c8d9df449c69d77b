/**
 * Another model name in a request's body: the one change of bytes that a router may be asked for. All
 * other bytes stay as they are. Pure.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const OPENING = new Set([0x7b, 0x5b]);
const CLOSING = new Set([0x7d, 0x5d]);
const SPACES = new Set([0x20, 0x09, 0x0a, 0x0d]);
const KEY = '"model"';

/** `rewrites`: names by the names that clients use. Null: the body stays as it is. Cost: O(bytes). */
export function rewriteModel(
  body: Uint8Array,
  rewrites: ReadonlyMap<string, string>,
): Buffer | null {
  if (rewrites.size === 0) return null;
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  const pieces: Buffer[] = [];
  let copiedTo = 0;
  for (const { start, end } of modelValues(bytes)) {
    const name = rewrites.get(nameOf(bytes.subarray(start, end)));
    if (name === undefined) continue;
    pieces.push(bytes.subarray(copiedTo, start), Buffer.from(JSON.stringify(name)));
    copiedTo = end;
  }
  return pieces.length === 0 ? null : Buffer.concat([...pieces, bytes.subarray(copiedTo)]);
}

/** Places of the strings that the outermost object has under the key; of several the last counts. */
function modelValues(bytes: Buffer): { readonly start: number; readonly end: number }[] {
  const values: { start: number; end: number }[] = [];
  let depth = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    if (OPENING.has(byte)) depth += 1;
    else if (CLOSING.has(byte)) depth -= 1;
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
  return end - start === KEY.length && bytes.toString("latin1", start, end) === KEY;
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
function nameOf(text: Buffer): string {
  try {
    return String(JSON.parse(text.toString("utf8")));
  } catch {
    return "";
  }
}
