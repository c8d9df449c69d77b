/**
 * Whether the data that a template writes out is written here as the engine writes it.
 *
 * JSON.parse forgets how a number was written (1.0 is 1) and moves keys that look like integers to the
 * front; Python keeps both, and writes very small and very large numbers otherwise.
 */
import { type Chat, isFields, listOrNull } from "./prompt-fields.ts";

/** Marks a value that is written otherwise. */
const OTHERWISE = Symbol("written otherwise");

/** Text without any of this needs no second look: exponents, fractions, long numbers, integer keys. */
const SUSPECT = /\d[.eE]|\d{16}|"\d+"\s*:|-0/;

const PYTHON_NUMBERS = /NaN|Infinity/;

/** Fields of a body whose data reaches a template. */
const TEMPLATE_FIELDS = [
  ...["messages", "input", "tools", "documents", "chat_template_kwargs"],
] as const;

type ParseWithSource = (
  text: string,
  reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
) => unknown;

/** `body`: bytes that the chat was read from. Cost: parses it once more where there is suspicion. */
export function isWrittenAlike(chat: Chat, body: Uint8Array): boolean {
  const calls = chat.messages.flatMap((message) => listOrNull(message["tool_calls"]) ?? []);
  const data = [chat.tools, chat.documents].filter((each) => each !== null);
  const args = Object.keys(chat.templateArgs).length;
  if (data.length + args + calls.length === 0) return true;
  const { buffer, byteOffset, byteLength } = body;
  const text = Buffer.from(buffer, byteOffset, byteLength).toString("utf8");
  const written = calls.flatMap((call) => {
    const called = isFields(call) ? call["function"] : null;
    const json = isFields(called) ? called["arguments"] : null;
    return typeof json === "string" ? [json] : [];
  });
  try {
    const fields = marked(text);
    if (isFields(fields) && TEMPLATE_FIELDS.some((name) => hasMark(fields[name]))) return false;
    return written.every(areArgumentsAlike);
  } catch {
    // No JSON, or nested deeper than the stack allows: the engine is to say so.
    return false;
  }
}

/** Arguments that are no JSON have no form; but Python takes these names for numbers. */
function areArgumentsAlike(json: string): boolean {
  if (!SUSPECT.test(json) && !PYTHON_NUMBERS.test(json)) return true;
  try {
    return !hasMark(marked(json));
  } catch {
    return !PYTHON_NUMBERS.test(json);
  }
}

/** The parsed value with its marks; null where nothing is suspect. Throws as JSON.parse does. */
function marked(text: string): unknown {
  if (!SUSPECT.test(text) && !PYTHON_NUMBERS.test(text)) return null;
  return (JSON.parse as ParseWithSource)(text, (_, value, { source }) =>
    isAlike(value, source) ? value : OTHERWISE,
  );
}

function isAlike(value: unknown, source: string | undefined): boolean {
  if (typeof value === "number") return isNumberAlike(value, source ?? "");
  if (!isFields(value)) return true;
  const keys = Object.keys(value);
  return keys.length < 2 || !keys.some((key) => /^\d+$/.test(key));
}

function isNumberAlike(value: number, source: string): boolean {
  if (/^-?\d+$/.test(source)) return Number.isSafeInteger(value) && !Object.is(value, -0);
  const size = Math.abs(value);
  return !Number.isInteger(value) && size >= 1e-4 && size < 1e16;
}

function hasMark(value: unknown): boolean {
  if (value === OTHERWISE) return true;
  if (Array.isArray(value)) return value.some(hasMark);
  return isFields(value) && Object.values(value).some(hasMark);
}
