/** Text becomes token ids at an engine that is ready; what it answered is remembered. */
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { chatByRules } from "./chat-rules.ts";
import type { EngineRules } from "./engine-rules.ts";
import { type TokenizeCall, tokenizeAtEngine } from "./http-tokenize.ts";
import type { Chat } from "./prompt-fields.ts";
import type {
  PromptText,
  PromptTokenizer,
  Tokenized,
  TokenizeRefusal,
  TokenizeRequest,
} from "./prompt-tokenizer.ts";
import { callKey, type TokenMemo } from "./token-memo.ts";

/** Time for which an engine that failed to tokenise, or was too late, is not asked again, ms. */
const BENCH_MS = 5000;
/** Paths of requests that an engine renders as a whole, at the same path with "/render" after it. */
const RENDERED = ["/v1/completions", "/v1/chat/completions"];

export interface EngineTokenizerDeps {
  /** Whether the engine renders the request itself, where it can, or tokenises what is read of it. */
  readonly isRendered: boolean;
  /** Ready engines to ask, the preferred first. */
  readonly engines: () => readonly EndpointId[];
  readonly memo: TokenMemo;
  readonly rules: EngineRules;
  readonly clock: Clock;
}

export class EngineTokenizer implements PromptTokenizer {
  readonly #deps: EngineTokenizerDeps;
  /** Engines that failed to tokenise, and until when another is asked, monotonic ms. */
  readonly #benchedUntilMs = new Map<EndpointId, number>();

  constructor(deps: EngineTokenizerDeps) {
    this.#deps = deps;
  }

  async tokenize(
    request: TokenizeRequest,
    signal: AbortSignal,
  ): Promise<Result<Tokenized, TokenizeRefusal>> {
    const { memo, rules } = this.#deps;
    const prompt = promptByRules(request.prompt, rules);
    const fields = jsonOrNull(tokenizeFields({ ...request, prompt }));
    if (fields === null) {
      return refused("too-deep", "the prompt is nested too deep to be written as JSON");
    }
    const key = callKey(fields);
    const known = memo.get(key);
    if (known !== null) return ok(tokenized("memo", known));
    const call = this.#isToRender(request)
      ? { path: `${request.route}/render`, body: Uint8Array.from(request.body) }
      : { path: "/tokenize", body: fields };
    const tokens = await this.#ask(call, signal);
    if (!tokens.ok) return tokens;
    memo.set(key, tokens.value);
    return ok(tokenized("engine", tokens.value));
  }

  /** `/tokenize` does not know documents. */
  #isToRender({ route, prompt }: TokenizeRequest): boolean {
    const hasDocuments = prompt.kind === "chat" && prompt.chat.documents !== null;
    return (this.#deps.isRendered || hasDocuments) && RENDERED.includes(route);
  }

  async #ask(
    call: TokenizeCall,
    signal: AbortSignal,
  ): Promise<Result<Uint32Array, TokenizeRefusal>> {
    const endpoint = this.#chooseEngine();
    if (endpoint === null) return refused("no-engine", "no engine is ready to tokenise");
    const answer = await tokenizeAtEngine(endpoint, call, signal);
    if (!answer.ok) this.#benchedUntilMs.set(endpoint, this.#deps.clock.nowMs() + BENCH_MS);
    return answer;
  }

  /** The preferred engine that did not fail lately; one that did rather than none. */
  #chooseEngine(): EndpointId | null {
    const engines = this.#deps.engines();
    const nowMs = this.#deps.clock.nowMs();
    for (const [endpoint, untilMs] of this.#benchedUntilMs) {
      if (untilMs <= nowMs) this.#benchedUntilMs.delete(endpoint);
    }
    return engines.find((each) => !this.#benchedUntilMs.has(each)) ?? engines[0] ?? null;
  }
}

function tokenized(source: "engine" | "memo", tokens: Uint32Array): Tokenized {
  return { source, tokens, segments: 1, segmentsKnown: source === "memo" ? 1 : 0 };
}

/** The body of a `/tokenize` call; plain prompts get special tokens (BOS) there by default. */
export function tokenizeFields({
  model,
  prompt,
}: Pick<TokenizeRequest, "model" | "prompt">): Readonly<Record<string, unknown>> {
  if (prompt.kind === "chat") return { model, ...chatFields(prompt.chat) };
  const { text, isSpecialAdded } = prompt;
  const special = isSpecialAdded === null ? {} : { add_special_tokens: isSpecialAdded };
  return { model, prompt: text, ...special };
}

/** The prompt as `/tokenize` is to be asked for it, which does not know the API that it came by. */
export function promptByRules(prompt: PromptText, rules: EngineRules): PromptText {
  if (prompt.kind === "text") return prompt;
  return { kind: "chat", chat: chatByRules(prompt.chat, { rules, isSystemMerged: false }) };
}

/** Only what differs from the engine's defaults. */
function chatFields(chat: Chat): Readonly<Record<string, unknown>> {
  const { messages, tools, documents, template, templateArgs } = chat;
  return {
    messages,
    ...(tools === null ? {} : { tools }),
    ...(documents === null ? {} : { documents }),
    ...(template === null ? {} : { chat_template: template }),
    ...(Object.keys(templateArgs).length === 0 ? {} : { chat_template_kwargs: templateArgs }),
    ...(chat.isGenerationPromptAdded ? {} : { add_generation_prompt: false }),
    ...(chat.isFinalMessageContinued ? { continue_final_message: true } : {}),
    ...(chat.isSpecialAdded ? { add_special_tokens: true } : {}),
  };
}

/** JSON text; null when the value is nested deeper than the stack allows. */
function jsonOrNull(value: unknown): string | null {
  try {
    return JSON.stringify(value);
  } catch {
    return null;
  }
}
