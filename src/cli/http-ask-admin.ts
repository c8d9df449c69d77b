/** Asks the admin server of a running router. */
import { z } from "zod";
import { KvError, messageOf } from "../core/errors.ts";

/** Wait for the answer, ms. */
const ANSWER_MS_MAX = 5000;

/** How the router says that it does not accept what it was asked. */
const REFUSAL_STATUSES: readonly number[] = [400, 413];
const refusalSchema = z.object({ error: z.string() });

/**
 * `body`: makes it a POST. Throws KvError ERR_QUERY_INVALID with the router's words where it refuses,
 * ERR_ADMIN_UNREACHABLE otherwise, also for an answer of another form.
 */
export async function askAdmin<Schema extends z.ZodType>(
  target: { readonly url: string; readonly path: string; readonly body?: Uint8Array<ArrayBuffer> },
  schema: Schema,
): Promise<z.output<Schema>> {
  const { url, path, body } = target;
  try {
    const init = body === undefined ? {} : { method: "POST", body };
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    const answer = await fetch(new URL(path, url), { ...init, signal });
    const content: unknown = await answer.json();
    const refusal = refusalSchema.safeParse(content);
    if (REFUSAL_STATUSES.includes(answer.status) && refusal.success) {
      throw new KvError("ERR_QUERY_INVALID", `${url}: ${refusal.data.error}`);
    }
    if (!answer.ok) throw new Error(`${answer.status} ${JSON.stringify(content)}`);
    return schema.parse(content);
  } catch (cause) {
    if (cause instanceof KvError) throw cause;
    const message = `${url}: no router answers there: ${messageOf(cause)}`;
    throw new KvError("ERR_ADMIN_UNREACHABLE", message, { cause });
  }
}
