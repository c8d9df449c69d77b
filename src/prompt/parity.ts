/**
 * Whether prompts become the same token ids here and at an engine: canary prompts through both, from
 * plain text to a chat with tools, so that the first one to differ names what is likely at fault.
 */
import type { EndpointId } from "../core/ids.ts";
import { readChatBody } from "./chat-body.ts";
import type { EngineRules } from "./engine-rules.ts";
import { tokenizeBody } from "./engine-tokenizer.ts";
import { tokenizeAtEngine } from "./http-tokenize.ts";
import type { Fields } from "./prompt-fields.ts";
import type { PromptText, PromptTokenizer, TokenizeRequest } from "./prompt-tokenizer.ts";

/**
 * - tokenizer: plain text differs: another vocabulary or version of the tokenizer's files
 * - special-tokens: it differs only when special tokens are added, such as BOS
 * - template: a chat differs: another chat template, or other defaults for it
 * - tools: only a chat with tools differs
 * - version: only what one version of an engine shows to the template and another does not
 */
export type MismatchCause = "tokenizer" | "special-tokens" | "template" | "tools" | "version";

export type Comparison =
  | { readonly kind: "equal"; readonly tokens: number }
  /** Null: that side has no more tokens. */
  | {
      readonly kind: "different";
      readonly position: number;
      readonly ours: number | null;
      readonly theirs: number | null;
    }
  | { readonly kind: "unavailable"; readonly detail: string };

/** unavailable: no canary was tokenised on both sides. */
export type ParityState = "equal" | "mismatch" | "unavailable";

export interface ParityResult {
  readonly state: ParityState;
  readonly cause: MismatchCause | null;
  readonly detail: string;
}

export interface ParityDeps {
  readonly endpoint: EndpointId;
  readonly tokenizer: PromptTokenizer;
  readonly rules: EngineRules;
}

/** Never rejects. */
export async function checkParity(
  deps: ParityDeps,
  model: string,
  signal: AbortSignal,
): Promise<ParityResult> {
  let compared = 0;
  let detail = "no canary was compared";
  for (const { cause, prompt } of CANARIES) {
    const comparison = await compareTokens(deps, canaryRequest(model, prompt), signal);
    if (comparison.kind === "different") {
      return { state: "mismatch", cause, detail: differenceText(comparison) };
    }
    if (comparison.kind === "equal") compared += 1;
    else detail = comparison.detail;
  }
  if (compared === 0) return { state: "unavailable", cause: null, detail };
  return { state: "equal", cause: null, detail: `${compared} canaries are equal` };
}

/** A prompt's token ids here and at the engine's `/tokenize`. Never rejects. */
export async function compareTokens(
  { endpoint, tokenizer, rules }: ParityDeps,
  request: TokenizeRequest,
  signal: AbortSignal,
): Promise<Comparison> {
  const ours = await tokenizer.tokenize(request, signal);
  if (!ours.ok) return { kind: "unavailable", detail: `here: ${ours.reason}: ${ours.detail}` };
  const body = tokenizeBody(request, rules);
  if (!body.ok) return { kind: "unavailable", detail: `${body.reason}: ${body.detail}` };
  const call = { path: "/tokenize", body: body.value };
  const theirs = await tokenizeAtEngine(endpoint, call, signal);
  if (!theirs.ok) return { kind: "unavailable", detail: `${theirs.reason}: ${theirs.detail}` };
  const position = firstDifference(ours.value.tokens, theirs.value);
  if (position === null) return { kind: "equal", tokens: theirs.value.length };
  const at = (tokens: Uint32Array): number | null => tokens[position] ?? null;
  return { kind: "different", position, ours: at(ours.value.tokens), theirs: at(theirs.value) };
}

export function differenceText({
  position,
  ours,
  theirs,
}: Extract<Comparison, { kind: "different" }>): string {
  const name = (id: number | null): string => (id === null ? "the end" : `token ${id}`);
  return `position ${position}: ${name(ours)} here, ${name(theirs)} at the engine`;
}

function firstDifference(ours: Uint32Array, theirs: Uint32Array): number | null {
  const length = Math.max(ours.length, theirs.length);
  for (let position = 0; position < length; position += 1) {
    if (ours[position] !== theirs[position]) return position;
  }
  return null;
}

function canaryRequest(model: string, prompt: PromptText): TokenizeRequest {
  return { model, prompt, route: "", body: new Uint8Array(0) };
}

const TEXT =
  "A canary: it's 12345 tokens, na\u00efve \u65e5\u672c\u8a9e \ud83d\ude00!\n\n  def f(x):\treturn x ** 2 ";
const MESSAGES = [
  { role: "system", content: "You sing." },
  { role: "user", content: "Sing!" },
  { role: "assistant", content: "Tweet." },
  { role: "user", content: "Again, please." },
];
const TOOL = {
  type: "function",
  function: {
    name: "sing",
    description: "Sings a song",
    parameters: { type: "object", properties: { song: { type: "string" } }, required: ["song"] },
  },
};

/** Since 0.25 vLLM leaves out the one field, and since 0.29 the other; SGLang leaves out both. */
const ODD_TOOL = { ...TOOL, function: { ...TOOL.function, strict: null, category: "birds" } };

const CANARIES: readonly { readonly cause: MismatchCause; readonly prompt: PromptText }[] = [
  { cause: "tokenizer", prompt: { kind: "text", text: TEXT, isSpecialAdded: false } },
  { cause: "special-tokens", prompt: { kind: "text", text: TEXT, isSpecialAdded: true } },
  { cause: "template", prompt: chatCanary({ messages: MESSAGES }) },
  { cause: "tools", prompt: chatCanary({ messages: MESSAGES, tools: [TOOL] }) },
  { cause: "version", prompt: chatCanary({ messages: MESSAGES, tools: [ODD_TOOL] }) },
];

function chatCanary(body: Fields): PromptText {
  const read = readChatBody(body, { isGenerating: true });
  if (read.ok && read.value.kind === "chat") return { kind: "chat", chat: read.value.chat };
  throw new Error("a canary is no chat");
}
