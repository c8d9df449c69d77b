/**
 * Request bodies of OpenAI's API as far as routing needs them: model, prompt, identity.
 *
 * Pure. Bytes are read, never changed; what is not understood is routed by load.
 */
import { messageOf } from "../core/errors.ts";
import { ok, type Result, refused } from "../core/result.ts";

export type Prompt =
  | { readonly kind: "tokens"; readonly tokens: Uint32Array }
  /** `addSpecialTokens`: as the request says; null leaves it to the engine. */
  | { readonly kind: "text"; readonly text: string; readonly addSpecialTokens: boolean | null }
  /** The fields of a chat request that its template sees, as the engine's /tokenize takes them. */
  | { readonly kind: "chat"; readonly fields: Readonly<Record<string, unknown>> };

export interface RequestBody {
  /** As the client names it: base model or adapter; null when absent. */
  readonly model: string | null;
  readonly cacheSalt: string | null;
  readonly prompt: Prompt;
}

/**
 * - not-json: the body of a known path is no JSON object
 * - path-unknown: not a path whose prompt is understood
 * - no-prompt: the prompt is missing or of another shape
 * - batch: several prompts in one request
 * - multimodal: content that is not text
 */
export type BodyRefusal = "not-json" | "path-unknown" | "no-prompt" | "batch" | "multimodal";

/** Chat fields that enter the template or the tokenizer call. */
const CHAT_FIELDS = [
  "messages",
  "tools",
  "chat_template",
  "chat_template_kwargs",
  "add_generation_prompt",
  "continue_final_message",
  "add_special_tokens",
] as const;

type Fields = Readonly<Record<string, unknown>>;

/** `path` may carry a query string. */
export function readRequestBody(path: string, body: Uint8Array): Result<RequestBody, BodyRefusal> {
  const [route] = path.split("?");
  if (route !== "/v1/completions" && route !== "/v1/chat/completions") {
    return refused("path-unknown", `path ${String(route).slice(0, 100)}`);
  }
  const fields = parseObject(body);
  if (!fields.ok) return fields;
  const prompt =
    route === "/v1/completions" ? completionPrompt(fields.value) : chatPrompt(fields.value);
  if (!prompt.ok) return prompt;
  const { model, cache_salt: cacheSalt } = fields.value;
  return ok({
    model: typeof model === "string" && model !== "" ? model : null,
    cacheSalt: typeof cacheSalt === "string" && cacheSalt !== "" ? cacheSalt : null,
    prompt: prompt.value,
  });
}

function parseObject(body: Uint8Array): Result<Fields, "not-json"> {
  try {
    const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8");
    // Engines accept a byte order mark, which JSON.parse does not.
    const parsed: unknown = JSON.parse(text.startsWith("\ufeff") ? text.slice(1) : text);
    if (isFields(parsed)) return ok(parsed);
    return refused("not-json", "the body is not a JSON object");
  } catch (error) {
    // The parser's message quotes the body; only the place is kept.
    const [place] = /position \d+/.exec(messageOf(error)) ?? ["an unknown position"];
    return refused("not-json", `the body is not JSON: error at ${place}`);
  }
}

function completionPrompt(fields: Fields): Result<Prompt, BodyRefusal> {
  const { prompt, add_special_tokens: special } = fields;
  const addSpecialTokens = typeof special === "boolean" ? special : null;
  if (typeof prompt === "string") return ok({ kind: "text", text: prompt, addSpecialTokens });
  if (!Array.isArray(prompt) || prompt.length === 0) {
    return refused("no-prompt", "field prompt is neither text nor token ids");
  }
  const [first] = prompt as readonly unknown[];
  if (typeof first === "number") return tokenPrompt(prompt);
  if (prompt.length > 1) return refused("batch", `${prompt.length} prompts in one request`);
  if (typeof first === "string") return ok({ kind: "text", text: first, addSpecialTokens });
  if (Array.isArray(first) && first.length > 0) return tokenPrompt(first);
  return refused("no-prompt", "field prompt is neither text nor token ids");
}

function tokenPrompt(ids: readonly unknown[]): Result<Prompt, BodyRefusal> {
  const tokens = new Uint32Array(ids.length);
  for (let position = 0; position < ids.length; position += 1) {
    const id = ids[position];
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > 0xffff_ffff) {
      return refused("no-prompt", `prompt[${position}] is not a token id`);
    }
    tokens[position] = id;
  }
  return ok({ kind: "tokens", tokens });
}

function chatPrompt(fields: Fields): Result<Prompt, BodyRefusal> {
  const messages = fields["messages"];
  if (!Array.isArray(messages) || messages.length === 0) {
    return refused("no-prompt", "field messages is not a list of messages");
  }
  for (const message of messages) {
    if (!isFields(message)) return refused("no-prompt", "a message is not an object");
    const content = message["content"];
    const isText = (part: unknown): boolean => isFields(part) && part["type"] === "text";
    if (Array.isArray(content) && !content.every(isText)) {
      return refused("multimodal", "a message has a part that is not text");
    }
  }
  const given = CHAT_FIELDS.filter((name) => fields[name] !== undefined);
  return ok({ kind: "chat", fields: Object.fromEntries(given.map((n) => [n, fields[n]])) });
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
