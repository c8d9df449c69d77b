/** JSON of engines: nesting is checked before it is parsed, and 64-bit integers keep all their bits. */
import { ok, type Result, refused } from "../core/result.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Digits of 2^64, and its sign where it is negative. */
const INTEGER_64 = /^-?\d{1,20}$/;

/** Null when nothing is nested deeper than `depthMax`; whether it is JSON at all is not looked at. */
export function jsonNestingProblem(
  bytes: Uint8Array,
  limits: { readonly depthMax: number },
): string | null {
  let depth = 0;
  let isString = false;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (isString && byte === BACKSLASH) at += 1;
    else if (byte === QUOTE) isString = !isString;
    else if (isString) continue;
    else if (byte === 0x5b || byte === 0x7b) depth += 1;
    else if (byte === 0x5d || byte === 0x7d) depth -= 1;
    if (depth > limits.depthMax) return `nested deeper than ${limits.depthMax}`;
  }
  return null;
}

export function parseJson(bytes: Uint8Array): Result<unknown, "not-json"> {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return ok(JSON.parse(text, wholeInteger));
  } catch {
    // The parser's message would quote the text, which holds token ids.
    return refused("not-json", `${bytes.length} bytes that are no JSON text`);
  }
}

/** A reviver: Node hands over the digits as they stand in the text. */
function wholeInteger(_key: string, value: unknown, ...context: readonly unknown[]): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const [details] = context;
  const source =
    typeof details === "object" && details !== null && "source" in details ? details.source : null;
  return typeof source === "string" && INTEGER_64.test(source) ? BigInt(source) : value;
}
