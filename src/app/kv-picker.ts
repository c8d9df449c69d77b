/** One request from body to destination: prompt -> tokens -> block keys, and what is decided on them. */
import type { Config } from "../config/schema.ts";
import type { EndOfRequest, Picker, PickOutcome, PickRequest } from "../extproc/picker.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import type { PromptConfig } from "../prompt/config.ts";
import { engineRules } from "../prompt/engine-rules.ts";
import { renameOf, rewriteModel } from "../prompt/model-rewrite.ts";
import {
  type ParsedRequest,
  PromptReader,
  type PromptReaderDeps,
  type PromptReading,
} from "../prompt/prompt-reader.ts";
import { readTraits } from "../prompt/request-traits.ts";
import type { AskedRequest, Decider } from "./decider.ts";

/** What tokenising may use here: each thread that serves has an equal share, and the one that decides. */
export function promptShare({ prompt, extProc }: Config): PromptConfig {
  return { ...prompt, memoBytesMax: Math.floor(prompt.memoBytesMax / (extProc.workers + 1)) };
}

export async function createPromptReader(
  { prompt, model, index }: Config,
  deps: Pick<PromptReaderDeps, "tokenizer" | "meter">,
): Promise<PromptReader> {
  const hasher = await createBlockHasher(index.keySeed);
  const { tokensMax } = prompt;
  return new PromptReader({ ...deps, tokensMax, rules: engineRules(prompt), model, hasher });
}

export function createPicker(
  { prompt }: Config,
  deps: Omit<KvPickerDeps, "modelRewrites">,
): KvPicker {
  return new KvPicker({ ...deps, modelRewrites: new Map(Object.entries(prompt.modelRewrites)) });
}

export interface KvPickerDeps {
  readonly prompt: PromptReader;
  readonly decider: Decider;
  /** See prompt.modelRewrites. */
  readonly modelRewrites: ReadonlyMap<string, string>;
}

export class KvPicker implements Picker {
  readonly #deps: KvPickerDeps;
  /** Requests whose text is being tokenised, as many as the edge has streams. */
  readonly #untokenized = new Map<string, ParsedRequest>();

  constructor(deps: KvPickerDeps) {
    this.#deps = deps;
  }

  async pick(received: PickRequest, signal: AbortSignal, onHeld: () => void): Promise<PickOutcome> {
    const { prompt, decider } = this.#deps;
    const request = this.#rewritten(received);
    const parsed = prompt.parse(request);
    // Meanwhile, `pickByLoad` finds what is known of the request so far.
    this.#untokenized.set(request.requestId, parsed);
    const tokenizing = prompt.tokenize(parsed, signal);
    // While a thread tokenises what is new.
    const chunkKeys = prompt.chunkKeysOf(parsed);
    let reading: PromptReading;
    try {
      reading = await tokenizing;
    } finally {
      this.#untokenized.delete(request.requestId);
    }
    const asked = this.#asked(request, reading, chunkKeys);
    return withBody(await decider.decide(asked, signal, onHeld), request, received);
  }

  async pickByLoad(received: PickRequest): Promise<PickOutcome> {
    const { prompt, decider } = this.#deps;
    const request = this.#rewritten(received);
    const parsed = this.#untokenized.get(request.requestId);
    const asked =
      parsed === undefined
        ? unread(request)
        : this.#asked(request, prompt.untokenized(parsed), prompt.chunkKeysOf(parsed));
    return withBody(await decider.decideNow(asked), request, received);
  }

  responseStarted(requestId: string, status: number, servedBy: string | null): void {
    this.#deps.decider.responseStarted(requestId, status, servedBy);
  }

  firstByte(requestId: string): void {
    this.#deps.decider.firstByte(requestId);
  }

  progressed(requestId: string, tokens: number): void {
    this.#deps.decider.progressed(requestId, tokens);
  }

  ended(requestId: string, end: EndOfRequest): void {
    this.#deps.decider.ended(requestId, end);
  }

  #rewritten(request: PickRequest): PickRequest {
    const rename = renameOf(request.headers, this.#deps.modelRewrites);
    const body = rename === null ? null : rewriteModel(request.body, rename);
    return body === null ? request : { ...request, body };
  }

  #asked(request: PickRequest, reading: PromptReading, chunkKeys: BigUint64Array): AskedRequest {
    const { prompt } = this.#deps;
    const { source, reason, tokens, prompts, inputTokens, isFirstTokenShown } = reading;
    const known = { source, reason, tokens, prompts, inputTokens, isFirstTokenShown };
    const keys = tokens === null ? null : prompt.keyed(reading);
    return {
      ...unread(request),
      wishes: { priority: reading.priority, ...reading.traits },
      read: { ...known, keys, chunkKeys },
    };
  }
}

/** The body was not read: only the headers say something. */
function unread({ requestId, subset, body, headers }: PickRequest): AskedRequest {
  const wishes = { priority: null, ...readTraits(headers) };
  return { requestId, subset, bytes: body.length, wishes, read: null };
}

function withBody(outcome: PickOutcome, sent: PickRequest, received: PickRequest): PickOutcome {
  const isChanged = outcome.kind === "route" && sent.body !== received.body;
  return isChanged ? { ...outcome, body: sent.body } : outcome;
}
