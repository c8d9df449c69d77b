/**
 * Request bodies of the APIs that are understood, as far as routing needs them: model, prompt,
 * identity. One file for each form of prompt.
 *
 * Pure. Bytes are read, never changed; what is not understood is routed by load.
 */
import { ok, type Result, refused } from "../core/result.ts";
import { readChatBody } from "./chat-body.ts";
import { readCompletionsBody, readEmbeddingsBody } from "./completions-body.ts";
import { readInferenceBody, readSglangBody } from "./generate-body.ts";
import { parseJsonBody } from "./json-body.ts";
import { readMessagesBody } from "./messages-body.ts";
import {
  type BodyRefusal,
  type Fields,
  isFields,
  isGiven,
  listOrNull,
  type Prompt,
  textOrNull,
} from "./prompt-fields.ts";
import { readResponsesBody } from "./responses-body.ts";

export interface RequestBody {
  /** Path of the API, without what a gateway puts before it, and without query string. */
  readonly route: string;
  /** As the client names it: base model or adapter; null when absent. */
  readonly model: string | null;
  /** By which SGLang knows an adapter. */
  readonly loraPath: string | null;
  readonly cacheSalt: string | null;
  /** Lower is sooner, as vLLM has it; null when absent. */
  readonly priority: number | null;
  /** Whether the answer's first byte tells of its first token; else it comes when all is generated. */
  readonly isFirstTokenShown: boolean;
  readonly prompt: Result<Prompt, BodyRefusal>;
}

const NO_API = ["", null] as const;

interface Api {
  /** Field that may be a list of token ids. */
  readonly tokensField: string | null;
  readonly readPrompt: (fields: Fields) => Result<Prompt, BodyRefusal>;
}

const EMBEDDINGS = "/v1/embeddings";

/** A path that ends like two of them is the first one's. */
const APIS: ReadonlyMap<string, Api> = new Map([
  ["/v1/completions", { tokensField: "prompt", readPrompt: readCompletionsBody }],
  [
    "/v1/chat/completions",
    { tokensField: null, readPrompt: (fields) => readChatBody(fields, { isGenerating: true }) },
  ],
  ["/v1/responses", { tokensField: null, readPrompt: readResponsesBody }],
  ["/v1/messages", { tokensField: null, readPrompt: readMessagesBody }],
  [EMBEDDINGS, { tokensField: "input", readPrompt: readEmbeddingsBody }],
  ["/inference/v1/generate", { tokensField: "token_ids", readPrompt: readInferenceBody }],
  ["/generate", { tokensField: "input_ids", readPrompt: readSglangBody }],
]);

/** `path` may carry a query string; empty: the gateway does not tell it, and the fields decide. */
export function readRequestBody(path: string, body: Uint8Array): Result<RequestBody, BodyRefusal> {
  const [route = ""] = path.split("?", 1);
  if (route !== "") return readBodyOf(route, body);
  const guessed = guessRoute(body);
  const read = guessed === null ? null : readBodyOf(guessed, body);
  // What a guess does not fit is no fault of the client.
  return read?.ok === true && read.value.prompt.ok
    ? read
    : refused("path-unknown", "no path, and no body that is known");
}

/** What a body asks for, where nothing else of it is wanted. */
export function readPrompt(
  path: string,
  body: Uint8Array,
): Result<{ readonly route: string; readonly prompt: Prompt }, BodyRefusal> {
  const read = readRequestBody(path, body);
  if (!read.ok) return read;
  const { route, prompt } = read.value;
  return prompt.ok ? ok({ route, prompt: prompt.value }) : prompt;
}

/** The route whose field the body has; null: none is known. */
export function guessRoute(body: Uint8Array): string | null {
  const parsed = parseJsonBody(body, "prompt");
  if (!parsed.ok) return null;
  const has = (field: string): boolean => Object.hasOwn(parsed.value, field);
  if (has("messages")) return has("system") ? "/v1/messages" : "/v1/chat/completions";
  if (has("prompt")) return "/v1/completions";
  if (has("input")) return isItems(parsed.value["input"]) ? "/v1/responses" : EMBEDDINGS;
  if (has("token_ids")) return "/inference/v1/generate";
  return has("input_ids") || has("text") ? "/generate" : null;
}

/** Text alone is taken for a question. */
function isItems(input: unknown): boolean {
  return typeof input === "string" || (listOrNull(input) ?? []).some(isFields);
}

function readBodyOf(path: string, body: Uint8Array): Result<RequestBody, BodyRefusal> {
  const [route, api] = [...APIS].find(([known]) => path.endsWith(known)) ?? NO_API;
  if (api === null) return refused("path-unknown", `path ${path.slice(0, 100)}`);
  if (body.length === 0) return refused("no-prompt", "the request has no body");
  const parsed = parseJsonBody(body, api.tokensField);
  if (!parsed.ok) return parsed;
  const fields = parsed.value;
  const { priority } = fields;
  return ok({
    route,
    model: textOrNull(fields["model"]),
    loraPath: textOrNull(fields["lora_path"]),
    // SGLang sets a request apart by extra_key as by a salt.
    cacheSalt: textOrNull(fields["cache_salt"]) ?? textOrNull(fields["extra_key"]),
    priority: typeof priority === "number" ? priority : null,
    isFirstTokenShown: route === EMBEDDINGS || isFirstTokenShown(fields),
    prompt: isPromptScored(fields) ? SCORED : api.readPrompt(fields),
  });
}

const SCORED: Result<Prompt, BodyRefusal> = refused(
  "cache-unread",
  "scores of the prompt's tokens: the engine computes all of them",
);

/** Names of the fields that bound an answer, tokens. */
const OUTPUT_LIMITS = [
  ...["max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"],
] as const;

/** An answer that is streamed, or that is no more than its first token. */
function isFirstTokenShown(fields: Fields): boolean {
  const params = paramsOf(fields);
  const isOneToken = OUTPUT_LIMITS.some((name) => fields[name] === 1 || params[name] === 1);
  return fields["stream"] === true || isOneToken;
}

/** Where the engines' own APIs have what others have beside the prompt. */
function paramsOf({ sampling_params: params }: Fields): Fields {
  return isFields(params) ? params : {};
}

/**
 * Whether logprobs of the prompt's own tokens are asked for: vLLM then reads nothing from its cache, and
 * SGLang no more than what is before them.
 */
function isPromptScored(fields: Fields): boolean {
  const { echo } = fields;
  const params = paramsOf(fields);
  if (isGiven(fields["prompt_logprobs"]) || isGiven(params["prompt_logprobs"])) return true;
  if (params["skip_reading_prefix_cache"] === true) return true;
  // An echo is scored like the answer; of a chat it always is.
  if (echo === true && (isGiven(fields["logprobs"]) || isGiven(fields["messages"]))) return true;
  return fields["return_logprob"] === true && Number(fields["logprob_start_len"] ?? -1) >= 0;
}
