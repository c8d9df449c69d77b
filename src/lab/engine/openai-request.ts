/**
 * Bodies of the OpenAI endpoints and of /tokenize, read as vLLM reads them. Everything is checked:
 * a body that is not understood becomes an error reply, never an exception.
 *
 * Left out, with an error: more than one prompt or choice, content parts that are not text.
 * Ignored: sampling parameters, since the lab model's answers depend on the prompt alone.
 */
import { ok, type Result, refused } from "../../core/result.ts";
import type { CacheIdentity } from "./block-hash.ts";
import { parseChat } from "./chat-messages.ts";
import { isObject, type JsonObject } from "./json-object.ts";
import { tokenizeChat, tokenizeText, VOCABULARY_TOKENS } from "./tokenizer.ts";

/** `bad_request` is HTTP 400, `not_found` 404. */
type RequestRefusal = "bad_request" | "not_found";
export type Parsed<Value> = Result<Value, RequestRefusal>;

/** Which of the two endpoints a generation came through. */
export type GenerationKind = "completion" | "chat";

export interface GenerationRequest {
  readonly kind: GenerationKind;
  /** The name that the client used: the base model or an adapter. */
  readonly modelName: string;
  readonly identity: CacheIdentity;
  readonly prompt: Uint32Array;
  readonly outputTokens: number;
  readonly isStream: boolean;
  /** stream_options.include_usage */
  readonly isUsageStreamed: boolean;
}

export interface ModelNames {
  readonly model: string;
  readonly loraNames: readonly string[];
  /** Tokens of prompt and output together. */
  readonly maxModelLen: number;
}

const OUTPUT_TOKENS_DEFAULT = 16;
const CACHE_SALT_CHARS_MAX = 128;

export function parseGeneration(
  kind: GenerationKind,
  body: JsonObject,
  names: ModelNames,
): Parsed<GenerationRequest> {
  const identity = parseIdentity(body, names);
  if (!identity.ok) return identity;
  const outputTokens = body["max_completion_tokens"] ?? body["max_tokens"] ?? OUTPUT_TOKENS_DEFAULT;
  if (!isInteger(outputTokens) || outputTokens < 1) {
    return bad(`max_tokens must be at least 1, got ${shown(outputTokens)}.`);
  }
  if ((body["n"] ?? 1) !== 1) return bad("n must be 1: the lab engine makes one choice.");
  const prompt =
    kind === "chat" ? parseChatPrompt(body) : parsePrompt(body["prompt"], { isBeginAdded: true });
  if (!prompt.ok) return prompt;
  const wanted = prompt.value.length + outputTokens;
  if (wanted > names.maxModelLen) {
    return bad(
      `This model's maximum context length is ${names.maxModelLen} tokens. However, you requested ` +
        `${wanted} tokens (${prompt.value.length} in the prompt, ${outputTokens} in the ` +
        "completion). Please reduce the length of the prompt or completion.",
    );
  }
  const streamOptions = body["stream_options"];
  return ok({
    kind,
    modelName: modelName(body, names),
    identity: identity.value,
    prompt: prompt.value,
    outputTokens,
    isStream: body["stream"] === true,
    isUsageStreamed: isObject(streamOptions) && streamOptions["include_usage"] === true,
  });
}

/** Token ids for POST /tokenize: of `messages` through the template, else of `prompt`. */
export function parseTokenize(body: JsonObject, names: ModelNames): Parsed<Uint32Array> {
  const identity = parseIdentity(body, names);
  if (!identity.ok) return identity;
  if (body["messages"] !== undefined) return parseChatPrompt(body);
  if (typeof body["prompt"] !== "string") return bad("prompt must be a string.");
  return parsePrompt(body["prompt"], { isBeginAdded: body["add_special_tokens"] !== false });
}

function parseIdentity(body: JsonObject, names: ModelNames): Parsed<CacheIdentity> {
  const name = modelName(body, names);
  const loraIndex = names.loraNames.indexOf(name);
  if (name !== names.model && loraIndex < 0) {
    return refused("not_found", `The model \`${name.slice(0, 256)}\` does not exist.`);
  }
  const cacheSalt = body["cache_salt"] ?? null;
  if (cacheSalt !== null && !isCacheSalt(cacheSalt)) {
    return bad(
      `cache_salt must be a non-empty string of at most ${CACHE_SALT_CHARS_MAX} characters ` +
        "without @, /, \\ and NUL.",
    );
  }
  return ok({
    loraName: loraIndex < 0 ? null : name,
    loraId: loraIndex < 0 ? null : loraIndex + 1,
    cacheSalt,
  });
}

/** A request without model name means the base model. */
function modelName(body: JsonObject, names: ModelNames): string {
  const name = body["model"] ?? names.model;
  return typeof name === "string" ? name : JSON.stringify(name);
}

function isCacheSalt(value: unknown): value is string {
  if (typeof value !== "string" || value.length === 0) return false;
  return value.length <= CACHE_SALT_CHARS_MAX && !/[@/\\\0]/.test(value);
}

function parseChatPrompt(body: JsonObject): Parsed<Uint32Array> {
  const chat = parseChat(body);
  return chat.ok ? ok(tokenizeChat(chat.value)) : chat;
}

function parsePrompt(
  prompt: unknown,
  options: { readonly isBeginAdded: boolean },
): Parsed<Uint32Array> {
  if (typeof prompt === "string") {
    const tokens = tokenizeText(prompt, options);
    return tokens.length === 0 ? bad("The prompt is empty.") : ok(tokens);
  }
  if (!Array.isArray(prompt) || prompt.length === 0) {
    return bad("prompt must be a string, a list of token ids, or a list with one of them.");
  }
  const [first] = prompt as readonly unknown[];
  if (typeof first === "number") return parseTokenIds(prompt);
  if (prompt.length === 1) return parsePrompt(first, options);
  return bad("The lab engine takes one prompt per request.");
}

function parseTokenIds(ids: readonly unknown[]): Parsed<Uint32Array> {
  const tokens = new Uint32Array(ids.length);
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index];
    if (!isInteger(id) || id < 0 || id >= VOCABULARY_TOKENS) {
      return bad(`Token id ${shown(id)} is out of vocabulary`);
    }
    tokens[index] = id;
  }
  return ok(tokens);
}

function isInteger(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

/** A refused value for a message: its beginning. */
function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "").slice(0, 40);
}

function bad(detail: string): ReturnType<typeof refused<"bad_request">> {
  return refused("bad_request", detail);
}
