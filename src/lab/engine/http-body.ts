/** Request bodies: read whole within a limit, and parsed as a JSON object. */
import type { IncomingMessage } from "node:http";
import { readBounded } from "../../core/bounded-body.ts";
import { ok, type Result, refused } from "../../core/result.ts";
import { isObject, type JsonObject } from "./json-object.ts";

/** `too_large` is HTTP 413, `bad_request` 400; `aborted`: the client is gone, no reply. */
export type BodyRefusal = "too_large" | "bad_request" | "aborted";

export async function readJsonBody(
  request: IncomingMessage,
  bytesMax: number,
): Promise<Result<JsonObject, BodyRefusal>> {
  const tooLarge = refused("too_large", `The body is larger than ${bytesMax} bytes.`);
  if (Number(request.headers["content-length"] ?? 0) > bytesMax) return tooLarge;
  try {
    const body = await readBounded(request.iterator({ destroyOnReturn: false }), bytesMax);
    return body === null ? tooLarge : parseObject(body.toString("utf8"));
  } catch {
    return refused("aborted", "The connection ended within the body.");
  }
}

function parseObject(text: string): Result<JsonObject, BodyRefusal> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return refused("bad_request", "The body is not valid JSON.");
  }
  return isObject(value) ? ok(value) : refused("bad_request", "The body must be a JSON object.");
}
