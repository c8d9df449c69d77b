/** The port behind which text becomes token ids: at an engine, or in this process. */
import type { Result } from "../core/result.ts";
import type { TemplateRefusal } from "./chat-template.ts";
import type { Chat } from "./prompt-fields.ts";
import type { WorkerRefusal } from "./tokenizer-worker.ts";

/** What is to be tokenised: one text, or one chat. */
export type PromptText =
  | { readonly kind: "text"; readonly text: string; readonly isSpecialAdded: boolean | null }
  | { readonly kind: "chat"; readonly chat: Chat };

export interface TokenizeRequest {
  /** As the request names it, or the pool's base model. */
  readonly model: string;
  readonly prompt: PromptText;
  /** Path and bytes of the request itself, for an engine that renders it. */
  readonly route: string;
  readonly body: Uint8Array;
}

export interface Tokenized {
  /** memo: all of it was seen before. */
  readonly source: "engine" | "local" | "memo";
  readonly tokens: Uint32Array;
  /** Parts that are remembered each by itself, and how many of them were. */
  readonly segments: number;
  readonly segmentsKnown: number;
}

/**
 * - no-engine: no engine is ready to tokenise
 * - engine-unreachable: no connection, or the deadline ended it
 * - engine-refused: an HTTP status other than 200
 * - prompt-refused: a status by which it refuses the prompt, as it will the request
 * - engine-answer: an answer that is too long or has no token ids
 * - too-deep: the prompt is nested deeper than JSON can be written
 * - not-unicode: text with half a surrogate pair
 * - tokenizer-busy: too much waits for the tokenizer, or for engines
 * - tokenizer-unsupported: the text has what the tokenizer's library takes apart in another way
 * - deadline: the text was not tokenised in time; its tokens are remembered when they are there
 */
export type TokenizeRefusal =
  | "no-engine"
  | "engine-unreachable"
  | "engine-refused"
  | "prompt-refused"
  | "engine-answer"
  | "too-deep"
  | "not-unicode"
  | "tokenizer-unsupported"
  | "deadline"
  | TemplateRefusal
  | WorkerRefusal;

export interface PromptTokenizer {
  /** Never rejects. Past the signal its answer is not used. */
  tokenize(
    request: TokenizeRequest,
    signal: AbortSignal,
  ): Promise<Result<Tokenized, TokenizeRefusal>>;
}
