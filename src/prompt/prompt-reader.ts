/** Request body -> namespace and token ids -> block keys. */
import { createHash } from "node:crypto";
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Meter } from "../core/meter.ts";
import { ok, type Result } from "../core/result.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { extraText, saltExtras } from "../keys/extra-keys.ts";
import type { PromptConfig } from "./config.ts";
import { type TokenizeRefusal, tokenizeAtEngine } from "./http-tokenize.ts";
import {
  type BodyRefusal,
  type Prompt,
  type RequestBody,
  readRequestBody,
} from "./request-body.ts";
import { TokenMemo } from "./token-memo.ts";

/** Time for which an engine that failed to tokenise, or was too late, is not asked again, ms. */
const BENCH_MS = 5000;
/** Bytes of text per token, to estimate a prompt whose tokens are not known. */
const BYTES_PER_TOKEN = 4;

/** given: token ids in the body; engine: its /tokenize; memo: seen before; none: routed by load. */
export type TokenSource = "given" | "engine" | "memo" | "none";

export type NoTokensReason =
  | BodyRefusal
  | TokenizeRefusal
  | "tokenize-off"
  | "no-engine"
  | "too-deep";

export interface PromptReading {
  readonly source: TokenSource;
  /** Why there are no token ids; null when there are. */
  readonly reason: NoTokensReason | null;
  /** For the client and the log; no prompt text. */
  readonly detail: string;
  /** Null with source "none". At most `tokensMax`. */
  readonly tokens: Uint32Array | null;
  /** Tokens of the prompt; estimated from the body's bytes when they are not known. */
  readonly inputTokens: number;
  /** LoRA adapter's name; null for the base model. */
  readonly lora: string | null;
  readonly cacheSalt: string | null;
}

export interface PromptReaderDeps {
  readonly config: PromptConfig;
  /** Base model of the pool: another name in a request is an adapter's. */
  readonly model: string;
  readonly hasher: BlockHasher;
  /** Ready engines to ask for token ids, the preferred first. */
  readonly engines: () => readonly EndpointId[];
  readonly clock: Clock;
  readonly meter: Meter;
}

export class PromptReader {
  readonly #deps: PromptReaderDeps;
  readonly #memo: TokenMemo;
  /** Engines that failed to tokenise, and until when another is asked, monotonic ms. */
  readonly #benchedUntilMs = new Map<EndpointId, number>();

  constructor(deps: PromptReaderDeps) {
    this.#deps = deps;
    this.#memo = new TokenMemo(deps.config.memoEntries);
  }

  /** Reads a body; asks an engine where text has to be tokenised. Never rejects. */
  async read(path: string, body: Uint8Array, signal: AbortSignal): Promise<PromptReading> {
    const request = readRequestBody(path, body);
    const reading = request.ok
      ? await this.#readPrompt(request.value, body.length, signal)
      : this.#withoutTokens(null, body.length, request);
    const labels = { source: reading.source, reason: reading.reason ?? "" };
    this.#deps.meter.count("kvatlas_prompt_requests_total", labels);
    return reading;
  }

  /** Keys of the prompt's full blocks; empty when its tokens are not known. Pure. */
  keysOf(reading: PromptReading, blockSizeTokens: number): BigUint64Array {
    if (reading.tokens === null) return new BigUint64Array(0);
    const { hasher, model } = this.#deps;
    const parent = hasher.rootKey({ model, lora: reading.lora, blockSizeTokens });
    const extras = [extraText(saltExtras(reading.cacheSalt))];
    return hasher.chainKeys({ parent, tokens: reading.tokens, blockSizeTokens, extras });
  }

  async #readPrompt(
    request: RequestBody,
    bodyBytes: number,
    signal: AbortSignal,
  ): Promise<PromptReading> {
    if (request.prompt.kind === "tokens") {
      return this.#withTokens(request, "given", request.prompt.tokens);
    }
    const fields = tokenizeFields(request.prompt, request.model ?? this.#deps.model);
    const text = jsonOrNull(fields);
    if (text === null) {
      const detail = "the prompt is nested too deep to be written as JSON";
      return this.#withoutTokens(request, bodyBytes, { reason: "too-deep", detail });
    }
    const hash = createHash("sha256").update(text).digest("base64");
    const known = this.#memo.get(hash);
    if (known !== null) return this.#withTokens(request, "memo", known);
    const tokens = await this.#tokenize(text, signal);
    if (!tokens.ok) return this.#withoutTokens(request, bodyBytes, tokens);
    this.#memo.set(hash, tokens.value);
    return this.#withTokens(request, "engine", tokens.value);
  }

  async #tokenize(body: string, signal: AbortSignal): Promise<Result<Uint32Array, NoTokensReason>> {
    const { config } = this.#deps;
    if (config.tokenize === "off") {
      return { ok: false, reason: "tokenize-off", detail: "prompt.tokenize is off" };
    }
    const endpoint = this.#chooseEngine();
    if (endpoint === null) {
      return { ok: false, reason: "no-engine", detail: "no engine is ready to tokenise" };
    }
    const answer = await tokenizeAtEngine(endpoint, body, signal);
    if (answer.ok) return ok(answer.value);
    this.#benchedUntilMs.set(endpoint, this.#deps.clock.nowMs() + BENCH_MS);
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

  #withTokens(request: RequestBody, source: TokenSource, tokens: Uint32Array): PromptReading {
    return {
      source,
      reason: null,
      detail: "",
      tokens: tokens.subarray(0, this.#deps.config.tokensMax),
      inputTokens: tokens.length,
      ...this.#identity(request),
    };
  }

  #withoutTokens(
    request: RequestBody | null,
    bodyBytes: number,
    refusal: { readonly reason: NoTokensReason; readonly detail: string },
  ): PromptReading {
    const { reason, detail } = refusal;
    return {
      source: "none",
      reason,
      detail,
      tokens: null,
      inputTokens: Math.ceil(bodyBytes / BYTES_PER_TOKEN),
      ...this.#identity(request),
    };
  }

  #identity(request: RequestBody | null): Pick<PromptReading, "lora" | "cacheSalt"> {
    const model = request?.model ?? this.#deps.model;
    const lora = model === this.#deps.model ? null : model;
    return { lora, cacheSalt: request?.cacheSalt ?? null };
  }
}

/** The body of the engine's call; plain prompts get special tokens (BOS) there by default. */
function tokenizeFields(
  prompt: Exclude<Prompt, { kind: "tokens" }>,
  model: string,
): Readonly<Record<string, unknown>> {
  if (prompt.kind === "chat") return { model, ...prompt.fields };
  const { text, addSpecialTokens } = prompt;
  const special = addSpecialTokens === null ? {} : { add_special_tokens: addSpecialTokens };
  return { model, prompt: text, ...special };
}

/** JSON text; null when the value is nested deeper than the stack allows. */
function jsonOrNull(value: unknown): string | null {
  try {
    return JSON.stringify(value);
  } catch {
    return null;
  }
}
