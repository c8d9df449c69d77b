/** Request -> namespace and token ids -> block keys. */
import { blockKey } from "../core/ids.ts";
import type { Meter } from "../core/meter.ts";
import type { Result } from "../core/result.ts";
import type { BlockHasher, ChainInput } from "../keys/block-hasher.ts";
import { type ExtraKey, extraText, saltExtras } from "../keys/extra-keys.ts";
import { BYTES_PER_TOKEN, ByteChunks, CHUNK_TOKENS } from "./byte-chunks.ts";
import type { EngineRules } from "./engine-rules.ts";
import { type BodyRefusal, type Prompt, textOrNull } from "./prompt-fields.ts";
import type {
  PromptText,
  PromptTokenizer,
  Tokenized,
  TokenizeRefusal,
  TokenizeRequest,
} from "./prompt-tokenizer.ts";
import { type RequestBody, readRequestBody } from "./request-body.ts";
import { type RequestTraits, readTraits } from "./request-traits.ts";

/**
 * given: token ids in the body; memo: seen before; local: tokenised here; engine: tokenised by one;
 * none: routed by load.
 */
export type TokenSource = "given" | "memo" | "local" | "engine" | "none";

export type NoTokensReason = BodyRefusal | TokenizeRefusal | "tokenize-off";

export interface PromptReading {
  readonly source: TokenSource;
  /** Why there are no token ids; null when there are. */
  readonly reason: NoTokensReason | null;
  /** For the client and the log; no prompt text. */
  readonly detail: string;
  /** Of a batch those of its longest prompt; null with source "none". At most `tokensMax`. */
  readonly tokens: Uint32Array | null;
  /** Prompts in the request. */
  readonly prompts: number;
  /** Tokens of all its prompts; estimated from bytes where they are not known. */
  readonly inputTokens: number;
  /** Parts of the prompt that are remembered each by itself, and how many of them were. */
  readonly segments: number;
  readonly segmentsKnown: number;
  /** LoRA adapter's name; null for the base model. */
  readonly lora: string | null;
  readonly cacheSalt: string | null;
  /** As the body says, lower is sooner; null when absent. */
  readonly priority: number | null;
  /** See RequestBody.isFirstTokenShown; true where the body is not understood. */
  readonly isFirstTokenShown: boolean;
  readonly traits: RequestTraits;
}

/** What a prompt's keys are made of. */
export type KeyedTokens = Pick<PromptReading, "tokens" | "lora" | "cacheSalt">;

/** Keys of one prompt's full blocks. */
export interface PromptKeys {
  /** They last until `reuse`. */
  keysOf(blockSizeTokens: number): BigUint64Array;
  /**
   * Of its next blocks behind one that ends at so many tokens and has this key: so many at most. Asked
   * for where holders have blocks of several sizes.
   */
  keysBehind(
    place: { readonly key: bigint; readonly tokens: number },
    blockSizeTokens: number,
    blocksMax: number,
  ): BigUint64Array;
  /** Keys of any prompt that were given so far are not needed any more. */
  reuse(): void;
}

export interface PromptReaderDeps {
  /** Tokens of a prompt that are keyed. */
  readonly tokensMax: number;
  /** Base model of the pool: another name in a request is an adapter's. */
  readonly model: string;
  readonly rules: EngineRules;
  readonly hasher: BlockHasher;
  /** Null: text is routed by load. */
  readonly tokenizer: PromptTokenizer | null;
  readonly meter: Meter;
}

export interface ReadRequest {
  /** May carry a query string. */
  readonly path: string;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
}

/** A request whose body is parsed, and whose text is not tokenised yet. */
export interface ParsedRequest {
  readonly request: ReadRequest;
  readonly body: Result<RequestBody, BodyRefusal>;
}

type Source = Pick<
  PromptReading,
  "source" | "reason" | "detail" | "tokens" | "inputTokens" | "segments" | "segmentsKnown"
>;

export class PromptReader {
  readonly #deps: PromptReaderDeps;
  readonly #chunks = new ByteChunks();

  constructor(deps: PromptReaderDeps) {
    this.#deps = deps;
  }

  /** Reads a request; tokenises where there is text. Never rejects. */
  async read(request: ReadRequest, signal: AbortSignal): Promise<PromptReading> {
    return await this.tokenize(this.parse(request), signal);
  }

  /** The part of `read` that takes no waiting. */
  parse(request: ReadRequest): ParsedRequest {
    return { request, body: readRequestBody(request.path, request.body) };
  }

  /** The rest of it. Never rejects. */
  async tokenize(parsed: ParsedRequest, signal: AbortSignal): Promise<PromptReading> {
    const { meter } = this.#deps;
    const { request, body } = parsed;
    const source = body.ok
      ? await this.#tokensOf(body.value, request.body, signal)
      : withoutTokens(request.body.length, body);
    meter.count("kvatlas_prompt_requests_total", {
      source: source.source,
      reason: source.reason ?? "",
    });
    return this.#reading(parsed, source);
  }

  /** What is known of a request when the time for its tokens is over. */
  untokenized(parsed: ParsedRequest): PromptReading {
    const late = { reason: "deadline", detail: "the text was not tokenised in time" } as const;
    return this.#reading(parsed, withoutTokens(parsed.request.body.length, late));
  }

  /** Keys are made when they are asked for; none where the tokens are not known. */
  keyed({ tokens, lora, cacheSalt }: KeyedTokens): PromptKeys {
    const { hasher } = this.#deps;
    const extras = saltExtras(cacheSalt);
    return {
      keysOf: (blockSizeTokens): BigUint64Array =>
        tokens === null
          ? NO_KEYS
          : hasher.passingKeys(this.#chain({ tokens, lora, blockSizeTokens, extras })),
      keysBehind: (place, blockSizeTokens, blocksMax): BigUint64Array => {
        const end = place.tokens + blocksMax * blockSizeTokens;
        const behind = tokens?.subarray(place.tokens, end) ?? NO_TOKENS;
        const parent = blockKey(place.key);
        return hasher.chainKeys({ parent, tokens: behind, blockSizeTokens });
      },
      reuse: (): void => hasher.reuse(),
    };
  }

  /** Keys of the chunks of the prompt's text; empty where there is none to be tokenised. Pure. */
  chunkKeysOf({ body }: ParsedRequest): BigUint64Array {
    if (!body.ok || this.#deps.tokenizer === null) return NO_KEYS;
    const { prompt, cacheSalt } = body.value;
    if (!prompt.ok || prompt.value.kind === "tokens") return NO_KEYS;
    const tokens = this.#chunks.wordsOf(promptText(prompt.value));
    const lora = this.#loraOf(body);
    const extras = ["bytes", cacheSalt];
    const blockSizeTokens = CHUNK_TOKENS;
    return this.#deps.hasher.chainKeys(this.#chain({ tokens, lora, blockSizeTokens, extras }));
  }

  #chain({ tokens, lora, blockSizeTokens, extras }: Chained): ChainInput {
    const { hasher, model } = this.#deps;
    const parent = hasher.rootKey({ model, lora, blockSizeTokens });
    return { parent, tokens, blockSizeTokens, extras: [extraText(extras)] };
  }

  #reading({ request, body }: ParsedRequest, source: Source): PromptReading {
    return {
      ...source,
      prompts: body.ok && body.value.prompt.ok ? promptsOf(body.value.prompt.value) : 1,
      lora: this.#loraOf(body),
      cacheSalt: body.ok ? body.value.cacheSalt : null,
      priority: body.ok ? body.value.priority : null,
      isFirstTokenShown: !body.ok || body.value.isFirstTokenShown,
      traits: readTraits(request.headers),
    };
  }

  #loraOf(body: ParsedRequest["body"]): string | null {
    if (!body.ok) return null;
    const { model, rules } = this.#deps;
    const { model: named, loraPath } = body.value;
    if (rules.has("sglang")) return adapterIn(named, model) ?? loraPath;
    return (named ?? loraPath) === model ? null : (named ?? loraPath);
  }

  async #tokensOf(
    { prompt: read, model, route }: RequestBody,
    body: Uint8Array,
    signal: AbortSignal,
  ): Promise<Source> {
    if (!read.ok) return withoutTokens(body.length, read);
    const prompt = read.value;
    if (prompt.kind === "tokens") return this.#given(prompt.prompts);
    const { tokenizer, rules } = this.#deps;
    if (prompt.kind === "chat" && !prompt.chat.isTextOnly) {
      // Most bytes of its body may be an image's, which says nothing of how many tokens it is.
      return { ...withoutTokens(0, MULTIMODAL), inputTokens: this.#chunks.wordsOf(prompt).length };
    }
    if (prompt.kind === "chat" && prompt.forwarded !== undefined && rules.has("forwarded-tokens")) {
      return this.#given([prompt.forwarded]);
    }
    if (tokenizer === null) {
      const off = { reason: "tokenize-off", detail: "prompt.tokenize is off" } as const;
      return withoutTokens(body.length, off);
    }
    const text = this.#asEngineReads(promptText(prompt));
    // An engine renders the whole request, which for a batch is not the prompt that is looked for.
    const isWhole = promptsOf(prompt) === 1;
    const request: TokenizeRequest = {
      model: model ?? this.#deps.model,
      prompt: text,
      route: isWhole ? route : "",
      body,
    };
    const tokenized = await tokenizer.tokenize(request, signal);
    if (!tokenized.ok) return withoutTokens(body.length, tokenized);
    const { tokens } = tokenized.value;
    return this.#withTokens(tokenized.value, Math.round(tokens.length * shareOfAll(prompt)));
  }

  #given(prompts: readonly Uint32Array[]): Source {
    const total = prompts.reduce((sum, { length }) => sum + length, 0);
    return this.#withTokens({ source: "given", tokens: longest(prompts), ...NO_SEGMENTS }, total);
  }

  /** SGLang adds a text's special tokens whatever the request says. */
  #asEngineReads(prompt: PromptText): PromptText {
    const isAlways = this.#deps.rules.has("sglang") && prompt.kind === "text";
    return isAlways ? { ...prompt, isSpecialAdded: null } : prompt;
  }

  #withTokens(
    { source, tokens, segments, segmentsKnown }: Tokenized | GivenTokens,
    inputTokens: number,
  ): Source {
    const keyed = tokens.subarray(0, this.#deps.tokensMax);
    const rest = { reason: null, detail: "", segments, segmentsKnown };
    return { source, tokens: keyed, inputTokens, ...rest };
  }
}

interface Chained {
  readonly tokens: Uint32Array;
  readonly lora: string | null;
  readonly blockSizeTokens: number;
  readonly extras: readonly ExtraKey[] | null;
}

type GivenTokens = Omit<Tokenized, "source"> & { readonly source: "given" };

const NO_KEYS: BigUint64Array = new BigUint64Array(0);
const NO_TOKENS: Uint32Array = new Uint32Array(0);
/** Tokens that a body is taken for of which nobody knows whether it is text. */
const UNREAD_TOKENS_MAX = 8192;
/** A recording or a file by its bytes would be hours of work. */
const NOT_TEXT: ReadonlySet<NoTokensReason> = new Set([
  ...(["not-json", "path-unknown", "no-prompt", "multimodal"] as const),
]);
const MULTIMODAL = {
  reason: "multimodal",
  detail: "a message has a part that is not text",
} as const;
const NO_SEGMENTS = { segments: 0, segmentsKnown: 0 } as const;

function withoutTokens(
  bodyBytes: number,
  refusal: { readonly reason: NoTokensReason; readonly detail: string },
): Source {
  const { reason, detail } = refusal;
  const tokensMax = NOT_TEXT.has(reason) ? UNREAD_TOKENS_MAX : Number.POSITIVE_INFINITY;
  const inputTokens = Math.min(tokensMax, Math.ceil(bodyBytes / BYTES_PER_TOKEN));
  return { source: "none", reason, detail, tokens: null, inputTokens, ...NO_SEGMENTS };
}

function promptsOf(prompt: Prompt): number {
  switch (prompt.kind) {
    case "tokens":
      return prompt.prompts.length;
    case "text":
      return prompt.texts.length;
    case "chat":
      return 1;
  }
}

/** Of a batch the longest text: its blocks weigh most. */
function promptText(prompt: Exclude<Prompt, { kind: "tokens" }>): PromptText {
  if (prompt.kind === "chat") return prompt;
  const { texts, isSpecialAdded } = prompt;
  return { kind: "text", text: longest(texts), isSpecialAdded };
}

/** Characters of all prompts, as a multiple of those of the longest: at least 1. */
function shareOfAll(prompt: Exclude<Prompt, { kind: "tokens" }>): number {
  if (prompt.kind === "chat" || prompt.texts.length === 1) return 1;
  const total = prompt.texts.reduce((sum, { length }) => sum + length, 0);
  return total / Math.max(1, longest(prompt.texts).length);
}

function longest<Part extends { readonly length: number }>(parts: readonly Part[]): Part {
  return parts.reduce((most, each) => (each.length > most.length ? each : most));
}

/** SGLang takes any name of a model for the base model's, with an adapter's behind a colon. */
function adapterIn(named: string | null, model: string): string | null {
  if (named === null || named === model) return null;
  const at = named.startsWith(`${model}:`) ? model.length : named.indexOf(":");
  return at === -1 ? null : textOrNull(named.slice(at + 1).trim());
}
