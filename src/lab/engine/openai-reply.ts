/** Replies of the OpenAI endpoints as vLLM words them: whole, as stream chunks, and errors. */
import type { GenerationKind } from "./openai-request.ts";

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens that were in the prefix cache. */
  readonly cachedTokens: number;
}

/** What every reply of one request carries. */
export interface ReplyHead {
  readonly kind: GenerationKind;
  readonly id: string;
  readonly createdSeconds: number;
  readonly modelName: string;
}

/** Server-sent event that ends a stream. */
export const STREAM_END = "data: [DONE]\n\n";

export function replyJson(head: ReplyHead, text: string, usage: Usage): string {
  const ending = { logprobs: null, finish_reason: "length", stop_reason: null };
  const choice =
    head.kind === "chat"
      ? { index: 0, message: { role: "assistant", content: text }, ...ending }
      : { index: 0, text, ...ending };
  return JSON.stringify({
    ...headFields(head, { isChunk: false }),
    choices: [choice],
    usage: usageFields(usage),
  });
}

/** The chunk that opens a chat stream; completions have none. */
export function roleChunk(head: ReplyHead): string {
  const choice = { index: 0, delta: { role: "assistant", content: "" }, finish_reason: null };
  return chunk(head, { choices: [choice] });
}

/** One token's text; the last one carries the finish reason. */
export function tokenChunk(
  head: ReplyHead,
  text: string,
  options: { readonly isLast: boolean },
): string {
  const ending = { logprobs: null, finish_reason: options.isLast ? "length" : null };
  const choice =
    head.kind === "chat"
      ? { index: 0, delta: { content: text }, ...ending }
      : { index: 0, text, ...ending };
  return chunk(head, { choices: [choice] });
}

export function usageChunk(head: ReplyHead, usage: Usage): string {
  return chunk(head, { choices: [], usage: usageFields(usage) });
}

/** vLLM's error body for an HTTP status. */
export function errorJson(status: number, message: string): string {
  return JSON.stringify({
    error: {
      message,
      type: ERROR_TYPES.get(status) ?? "BadRequestError",
      param: null,
      code: status,
    },
  });
}

const ERROR_TYPES: ReadonlyMap<number, string> = new Map([
  [400, "BadRequestError"],
  [404, "NotFoundError"],
  [405, "MethodNotAllowedError"],
  [413, "RequestEntityTooLargeError"],
  [500, "InternalServerError"],
  [503, "ServiceUnavailableError"],
]);

function chunk(head: ReplyHead, fields: Readonly<Record<string, unknown>>): string {
  return `data: ${JSON.stringify({ ...headFields(head, { isChunk: true }), ...fields })}\n\n`;
}

function headFields(
  head: ReplyHead,
  options: { readonly isChunk: boolean },
): Readonly<Record<string, unknown>> {
  const chatObject = options.isChunk ? "chat.completion.chunk" : "chat.completion";
  return {
    id: head.id,
    object: head.kind === "chat" ? chatObject : "text_completion",
    created: head.createdSeconds,
    model: head.modelName,
  };
}

function usageFields(usage: Usage): Readonly<Record<string, unknown>> {
  return {
    prompt_tokens: usage.promptTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    completion_tokens: usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
  };
}
