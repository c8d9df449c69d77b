/** Asks an engine's `/tokenize` for the token ids of a text or chat (vLLM; SGLang has the same). */

import { Readable } from "node:stream";
import { z } from "zod";
import { readBounded } from "../core/bounded-body.ts";
import { messageOf } from "../core/errors.ts";
import type { EndpointId } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";

/** Bytes of an answer that are read: 4 M token ids of at most 7 characters. */
const ANSWER_BYTES_MAX = 33_554_432;

const answerSchema = z.object({ tokens: z.array(z.int().min(0).max(0xffff_ffff)) });

/**
 * - engine-unreachable: no connection, or the signal ended it
 * - engine-refused: an HTTP status other than 200
 * - engine-answer: an answer that is too long or has no token ids
 */
export type TokenizeRefusal = "engine-unreachable" | "engine-refused" | "engine-answer";

/** `body`: JSON of the call, `{model, prompt}` or `{model, messages, ...}`. */
export async function tokenizeAtEngine(
  endpoint: EndpointId,
  body: string,
  signal: AbortSignal,
): Promise<Result<Uint32Array, TokenizeRefusal>> {
  let answer: Buffer | null;
  try {
    const response = await fetch(`http://${endpoint}/tokenize`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      signal,
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      return refused("engine-refused", `status ${response.status} of ${endpoint}`);
    }
    answer = await readBounded(response.body ?? Readable.from([]), ANSWER_BYTES_MAX);
  } catch (error) {
    return refused("engine-unreachable", `${endpoint}: ${messageOf(error)}`);
  }
  if (answer === null) return refused("engine-answer", `over ${ANSWER_BYTES_MAX} bytes`);
  return parseAnswer(answer.toString("utf8"));
}

function parseAnswer(text: string): Result<Uint32Array, "engine-answer"> {
  try {
    const answer = answerSchema.safeParse(JSON.parse(text));
    if (answer.success) return ok(Uint32Array.from(answer.data.tokens));
    return refused("engine-answer", "field tokens is not a list of token ids");
  } catch {
    return refused("engine-answer", "not JSON");
  }
}
