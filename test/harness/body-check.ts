/** Whether a body is read as JSON.parse reads it, and not thrown at. */
import { parseJsonBody } from "../../src/prompt/json-body.ts";
import { readRequestBody } from "../../src/prompt/request-body.ts";
import type { BodySample } from "./body-samples.ts";

/** "accepted", or the reason of the refusal; throws where the reading differs from JSON.parse. */
export function checkBody({ path, tokensField, body }: BodySample): string {
  const read = readRequestBody(path, body);
  if (tokensField !== null) compare(body, tokensField);
  return read.ok ? "accepted" : read.reason;
}

function compare(body: Uint8Array, field: string): void {
  const text = Buffer.from(body).toString("utf8");
  let expected: unknown = null;
  try {
    expected = JSON.parse(text.startsWith("\ufeff") ? text.slice(1) : text);
  } catch {}
  const fields = parseJsonBody(body, field);
  const isObject = typeof expected === "object" && expected !== null && !Array.isArray(expected);
  const read = fields.ok
    ? JSON.stringify(fields.value, (_, each) => (each instanceof Uint32Array ? [...each] : each))
    : null;
  if (read !== (isObject ? JSON.stringify(expected) : null)) {
    throw new Error("the body is not read as JSON.parse reads it");
  }
}
