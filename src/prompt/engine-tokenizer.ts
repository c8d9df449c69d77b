/** Text becomes token ids at an engine that is ready; what it answered is remembered. */
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import type { EngineRules } from "./engine-rules.ts";
import { type TokenizeCall, tokenizeAtEngine } from "./http-tokenize.ts";
import type { Chat, Fields } from "./prompt-fields.ts";
import type {
  PromptTokenizer,
  Tokenized,
  TokenizeRefusal,
  TokenizeRequest,
} from "./prompt-tokenizer.ts";
import { TemplateGap } from "./python-values.ts";
import { sglangRequest } from "./sglang-chat.ts";
import { callKey, type TokenMemo } from "./token-memo.ts";
import { chatByRules } from "./vllm-chat.ts";

/** Time for which an engine that failed to tokenise, or was too late, is not asked again, ms. */
const BENCH_MS = 5000;
/** Calls under way at engines, each on a connection of its own; beyond, a text has no tokens in time. */
export const CALLS_MAX = 512;
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
  #calls = 0;

  constructor(deps: EngineTokenizerDeps) {
    this.#deps = deps;
  }

  async tokenize(
    request: TokenizeRequest,
    signal: AbortSignal,
  ): Promise<Result<Tokenized, TokenizeRefusal>> {
    const { memo, rules } = this.#deps;
    const body = tokenizeBody(request, rules);
    if (!body.ok) return body;
    const key = callKey(body.value);
    const known = memo.get(key);
    if (known !== null) return ok(tokenized("memo", known));
    const call = this.#isToRender(request)
      ? { path: `${request.route}/render`, body: Uint8Array.from(request.body) }
      : { path: "/tokenize", body: body.value };
    const tokens = await this.#ask(call, signal);
    if (!tokens.ok) return tokens;
    memo.set(key, tokens.value);
    return ok(tokenized("engine", tokens.value));
  }

  /** vLLM's `/tokenize` does not know documents, SGLang nowhere. */
  #isToRender({ route, prompt }: TokenizeRequest): boolean {
    const { isRendered, rules } = this.#deps;
    const hasDocuments =
      prompt.kind === "chat" && prompt.chat.documents !== null && !rules.has("sglang");
    return (isRendered || hasDocuments) && RENDERED.includes(route);
  }

  async #ask(
    call: TokenizeCall,
    signal: AbortSignal,
  ): Promise<Result<Uint32Array, TokenizeRefusal>> {
    const endpoint = this.#chooseEngine();
    if (endpoint === null) return refused("no-engine", "no engine is ready to tokenise");
    if (this.#calls >= CALLS_MAX) {
      return refused("tokenizer-busy", `${CALLS_MAX} calls wait for engines`);
    }
    this.#calls += 1;
    const answer = await tokenizeAtEngine(endpoint, call, signal).finally(() => {
      this.#calls -= 1;
    });
    // A prompt that the engine refuses says nothing of the engine, nor does a client that gave up.
    if (!answer.ok && answer.reason !== "prompt-refused" && !isGivenUp(signal)) {
      this.#benchedUntilMs.set(endpoint, this.#deps.clock.nowMs() + BENCH_MS);
    }
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

/** Aborted, but not for being late, which says "TimeoutError" as AbortSignal.timeout does. */
function isGivenUp({ aborted, reason }: AbortSignal): boolean {
  return aborted && !(reason instanceof DOMException && reason.name === "TimeoutError");
}

function tokenized(source: "engine" | "memo", tokens: Uint32Array): Tokenized {
  return { source, tokens, segments: 1, segmentsKnown: source === "memo" ? 1 : 0 };
}

/**
 * The body of a `/tokenize` call, which does not know the API that the prompt came by; plain prompts get
 * special tokens (BOS) there by default.
 */
export function tokenizeBody(
  { model, prompt }: Pick<TokenizeRequest, "model" | "prompt">,
  rules: EngineRules,
): Result<string, "too-deep" | "template-unsupported"> {
  try {
    if (prompt.kind === "chat") {
      return ok(JSON.stringify({ model, ...chatFields(prompt.chat, rules) }));
    }
    const { text, isSpecialAdded } = prompt;
    const special = isSpecialAdded === null ? {} : { add_special_tokens: isSpecialAdded };
    return ok(JSON.stringify({ model, prompt: text, ...special }));
  } catch (error) {
    if (error instanceof TemplateGap) return refused("template-unsupported", error.message);
    return refused("too-deep", "the prompt is nested too deep to be written as JSON");
  }
}

/** Only what differs from the engine's defaults. */
function chatFields(asked: Chat, rules: EngineRules): Fields {
  if (rules.has("sglang")) return sglangRequest(asked, { rules, isSystemMerged: null });
  const chat = chatByRules(asked, { rules, isSystemMerged: false });
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
