/**
 * Body bytes -> the fields of a JSON object, in which a long list of token ids is read without
 * JSON.parse.
 *
 * The list is cut out and a mark put in its place; JSON.parse judges what remains. That the mark
 * comes back as the value of the body's own field is shown by two different marks: a copy of one in
 * the body, a key of the same name elsewhere, or a later key that wins, cannot equal both. Where it is
 * not shown, the whole body is parsed. So the result is that of JSON.parse in every case.
 */
import { messageOf } from "../core/errors.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { type Fields, isFields } from "./prompt-fields.ts";
import { afterSpace, scanTokenIds } from "./token-scan.ts";

const COLON = 0x3a;
const OPEN = 0x5b;
/** Shorter bodies are parsed whole: the two marks cost more than they save. */
const SCANNED_BYTES_MIN = 2048;
/** Bytes beside the list, which are parsed twice; with more of them the body is parsed whole. */
const REMAINDER_BYTES_MAX = 65_536;
/** Places in which the field's name is looked for: it may be a value as well. */
const NAMES_MAX = 4;

/**
 * `tokensField`: the field that may be a list of token ids, which is then a Uint32Array in the
 * result; null: none may.
 */
export function parseJsonBody(
  body: Uint8Array,
  tokensField: string | null,
): Result<Fields, "not-json"> {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const scanned =
    tokensField === null || bytes.length < SCANNED_BYTES_MIN
      ? null
      : parseAroundTokens(bytes, tokensField);
  return scanned === null ? parseWhole(bytes) : ok(scanned);
}

function parseAroundTokens(bytes: Buffer, field: string): Fields | null {
  const at = listOf(bytes, field);
  const scanned = at === null ? null : scanTokenIds(bytes, at);
  if (at === null || scanned === null) return null;
  const remainderBytes = at + bytes.length - scanned.end;
  if (remainderBytes > REMAINDER_BYTES_MAX) return null;
  const before = withoutMark(bytes.toString("utf8", 0, at));
  const after = bytes.toString("utf8", scanned.end);
  const marked = (mark: number): Fields | null => {
    const parsed = parsedOrNull(`${before}${mark}${after}`);
    return isFields(parsed) && parsed[field] === mark ? parsed : null;
  };
  const fields = marked(1);
  return fields === null || marked(2) === null ? null : { ...fields, [field]: scanned.tokens };
}

/** Offset of the bracket after `"field":`; null where there is none. */
function listOf(bytes: Buffer, field: string): number | null {
  const name = `"${field}"`;
  let from = 0;
  for (let tried = 0; tried < NAMES_MAX; tried += 1) {
    const found = bytes.indexOf(name, from, "latin1");
    if (found === -1) return null;
    from = found + name.length;
    const colon = afterSpace(bytes, from);
    if (bytes[colon] !== COLON) continue;
    const at = afterSpace(bytes, colon + 1);
    return bytes[at] === OPEN ? at : null;
  }
  return null;
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function parseWhole(bytes: Buffer): Result<Fields, "not-json"> {
  try {
    const parsed: unknown = JSON.parse(withoutMark(bytes.toString("utf8")));
    if (isFields(parsed)) return ok(parsed);
    return refused("not-json", "the body is not a JSON object");
  } catch (error) {
    // The parser's message quotes the body; only the place is kept.
    const [place] = /position \d+/.exec(messageOf(error)) ?? ["an unknown position"];
    return refused("not-json", `the body is not JSON: error at ${place}`);
  }
}

/** Engines accept a byte order mark, which JSON.parse does not. */
function withoutMark(text: string): string {
  return text.startsWith("\ufeff") ? text.slice(1) : text;
}
