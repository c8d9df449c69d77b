/** What a request's body says about its prompt, whatever the API, and the reading of single fields. */
import { ok, type Result, refused } from "../core/result.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** A chat as vLLM reads it from its API: messages in OpenAI's form, before the rules of its version. */
export interface Chat {
  /** Else parts of it are images and the like, and its tokens cannot be told here. */
  readonly isTextOnly: boolean;
  readonly messages: readonly Fields[];
  /** The body as it came, of which SGLang reads more and other fields than vLLM. */
  readonly body: Fields;
  readonly tools: readonly unknown[] | null;
  readonly documents: readonly unknown[] | null;
  /** A template of the request's own; null: the model's. */
  readonly template: string | null;
  /** API of the body: engines read what is alike in two of them otherwise. */
  readonly api: "chat" | "responses" | "messages";
  /** `chat_template_kwargs`. */
  readonly templateArgs: Fields;
  /** Reasoning effort; null: none is asked for. */
  readonly effort: string | null;
  /** Whether thinking is disabled by name, as `/v1/messages` does it. */
  readonly isThinkingOff: boolean;
  readonly isGenerationPromptAdded: boolean;
  readonly isFinalMessageContinued: boolean;
  readonly isSpecialAdded: boolean;
}

export type Prompt =
  /** At least one prompt; several are a batch. */
  | { readonly kind: "tokens"; readonly prompts: readonly Uint32Array[] }
  /** `isSpecialAdded`: as the request says; null leaves it to the engine, which adds them. */
  | {
      readonly kind: "text";
      readonly texts: readonly string[];
      readonly isSpecialAdded: boolean | null;
    }
  /** `forwarded`: what another engine made of this chat, where the request brings it. */
  | { readonly kind: "chat"; readonly chat: Chat; readonly forwarded?: Uint32Array };

/**
 * - not-json: the body of a known path is no JSON object
 * - path-unknown: not a path whose prompt is understood
 * - no-prompt: the prompt is missing or of another shape
 * - multimodal: content that is not text
 * - stateful: the prompt continues what only the engine remembers
 * - truncated: the engine is asked to cut the prompt
 * - cache-unread: the engine is asked for what makes it compute the whole prompt, whatever it holds
 */
export type BodyRefusal =
  | "not-json"
  | "path-unknown"
  | "no-prompt"
  | "multimodal"
  | "stateful"
  | "truncated"
  | "cache-unread";

/** Of a header that one client puts first in its system text, with a hash of each request. */
export const BILLING_HEADER = "x-anthropic-billing-header";

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** Null for anything but text that is not empty. */
export function textOrNull(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

const TRUE_WORDS = ["1", "on", "t", "true", "y", "yes"];
const FALSE_WORDS = ["0", "off", "f", "false", "n", "no"];

/** A boolean as engines read it, also from 0, 1 and words; null for anything else. */
export function booleanOrNull(value: unknown): boolean | null {
  if (typeof value === "boolean") return value;
  if (typeof value !== "number" && typeof value !== "string") return null;
  const word = String(value).toLowerCase();
  if (TRUE_WORDS.includes(word)) return true;
  return FALSE_WORDS.includes(word) ? false : null;
}

export function listOrNull(value: unknown): readonly unknown[] | null {
  return Array.isArray(value) ? value : null;
}

/** Text, token ids, or a list of either; `name`: of the field, for the refusal. */
export function readTextOrTokens(
  value: unknown,
  { name, isSpecialAdded }: { readonly name: string; readonly isSpecialAdded: unknown },
): Result<Prompt, BodyRefusal> {
  const special = booleanOrNull(isSpecialAdded);
  if (value instanceof Uint32Array) return ok({ kind: "tokens", prompts: [value] });
  if (typeof value === "string") {
    return ok({ kind: "text", texts: [value], isSpecialAdded: special });
  }
  const list = listOrNull(value) ?? [];
  if (list.length > 0 && list.every((each) => typeof each === "string")) {
    return ok({ kind: "text", texts: list, isSpecialAdded: special });
  }
  const prompts = typeof list[0] === "number" ? [list] : list;
  const tokens = prompts.map(tokenIdsOf);
  if (tokens.length > 0 && tokens.every((each) => each !== null)) {
    return ok({ kind: "tokens", prompts: tokens });
  }
  return refused("no-prompt", `field ${name} is neither text nor token ids`);
}

/** Null unless it is a list of at least one integer from 0 to 2^32 - 1. */
export function tokenIdsOf(ids: unknown): Uint32Array | null {
  if (!Array.isArray(ids) || ids.length === 0) return null;
  const tokens = new Uint32Array(ids.length);
  for (let position = 0; position < ids.length; position += 1) {
    const id: unknown = ids[position];
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > 0xffff_ffff) return null;
    tokens[position] = id;
  }
  return tokens;
}
