/** Asks an engine for token ids: `/tokenize` (vLLM, SGLang), or a path that renders a whole request. */

import { Readable } from "node:stream";
import { z } from "zod";
import { readBounded } from "../core/bounded-body.ts";
import { messageOf } from "../core/errors.ts";
import type { EndpointId } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";

/** Bytes of an answer that are read: 4 M token ids of at most 7 characters. */
const ANSWER_BYTES_MAX = 33_554_432;

const ids = z.array(z.int().min(0).max(0xffff_ffff));
const rendered = z.object({ token_ids: ids, features: z.null().optional() });
/** Of `/tokenize`, of a rendered chat, and of rendered completions with one prompt. */
const answerSchema = z.union([
  z.object({ tokens: ids }).transform(({ tokens }) => tokens),
  rendered.transform(({ token_ids: tokens }) => tokens),
  z.tuple([rendered]).transform(([{ token_ids: tokens }]) => tokens),
]);

/** As in TokenizeRefusal. */
export type AskRefusal =
  | "engine-unreachable"
  | "engine-refused"
  | "prompt-refused"
  | "engine-answer";

/** Statuses with which an engine refuses what it is asked, and not to be asked. */
const PROMPT_REFUSED: ReadonlySet<number> = new Set([400, 413, 422]);

export interface TokenizeCall {
  readonly path: string;
  /** JSON. */
  readonly body: string | Uint8Array<ArrayBuffer>;
}

export async function tokenizeAtEngine(
  endpoint: EndpointId,
  { path, body }: TokenizeCall,
  signal: AbortSignal,
): Promise<Result<Uint32Array, AskRefusal>> {
  let answer: Buffer | null;
  try {
    const response = await fetch(`http://${endpoint}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      signal,
    });
    if (response.status !== 200) {
      const reason = (await isPromptRefused(response)) ? "prompt-refused" : "engine-refused";
      return refused(reason, `status ${response.status} of ${endpoint}${path}`);
    }
    answer = await readBounded(response.body ?? Readable.from([]), ANSWER_BYTES_MAX);
  } catch (error) {
    return refused("engine-unreachable", `${endpoint}: ${messageOf(error)}`);
  }
  if (answer === null) return refused("engine-answer", `over ${ANSWER_BYTES_MAX} bytes`);
  return parseAnswer(answer.toString("utf8"));
}

/** A 404 without an error in it is that of a server which does not have the path. */
async function isPromptRefused({ status, body }: Response): Promise<boolean> {
  if (status !== 404) {
    await body?.cancel();
    return PROMPT_REFUSED.has(status);
  }
  const answer = await readBounded(body ?? Readable.from([]), ANSWER_BYTES_MAX);
  return answer?.includes('"error"') ?? false;
}

function parseAnswer(text: string): Result<Uint32Array, "engine-answer"> {
  try {
    const answer = answerSchema.safeParse(JSON.parse(text));
    if (answer.success) return ok(Uint32Array.from(answer.data));
    return refused("engine-answer", "the answer has no list of token ids");
  } catch {
    return refused("engine-answer", "not JSON");
  }
}
