/**
 * Text becomes token ids in this process: chats through the model's template, texts cut at added
 * tokens, pieces remembered, and what is new tokenised on another thread.
 */
import { KvError, messageOf } from "../core/errors.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { ChatTemplate, type RenderedChat } from "./chat-template.ts";
import type { EngineRules } from "./engine-rules.ts";
import { chatTemplatesOf, readTokenizerConfig, specialTokensOf } from "./file-tokenizer.ts";
import { isWrittenAlike } from "./json-forms.ts";
import type { Fields } from "./prompt-fields.ts";
import type {
  PromptTokenizer,
  Tokenized,
  TokenizeRefusal,
  TokenizeRequest,
} from "./prompt-tokenizer.ts";
import { type TextPart, textCutter } from "./text-cuts.ts";
import { TextStarts } from "./text-starts.ts";
import { memoKey, type TokenMemo } from "./token-memo.ts";
import type { TokenizerFacts } from "./tokenizer-thread.ts";
import { TokenizerWorker, type TokenizerWorkerDeps } from "./tokenizer-worker.ts";

export interface LocalTokenizerDeps extends TokenizerWorkerDeps {
  readonly memo: TokenMemo;
  readonly rules: EngineRules;
  /** Bytes of long texts that are kept beside the memo, with their token ids. */
  readonly textBytesMax: number;
  /** For what cannot be rendered here as the engine does it. */
  readonly otherwise: PromptTokenizer;
}

interface Parts {
  readonly worker: TokenizerWorker;
  readonly facts: TokenizerFacts;
  readonly template: ChatTemplate;
}

/** A text between two added tokens. */
interface Piece {
  readonly key: string;
  readonly text: string;
}

type Made = Result<Uint32Array, TokenizeRefusal>;

export class LocalTokenizer implements PromptTokenizer {
  /** What was read and how texts are cut, for people. */
  readonly detail: string;
  readonly #deps: LocalTokenizerDeps;
  readonly #parts: Parts;
  readonly #cut: (text: string, from: number) => TextPart[];
  /** Empty where texts are not cut. */
  readonly #starts: TextStarts;
  /** Pieces under way, by their key: as many as the worker lets wait. */
  readonly #underWay = new Map<string, Promise<Made>>();

  private constructor(folder: string, parts: Parts, deps: LocalTokenizerDeps) {
    this.#deps = deps;
    this.#parts = parts;
    const { cutObstacle, added } = parts.facts;
    this.#cut =
      cutObstacle === null ? textCutter(added) : (text): TextPart[] => [{ text, id: null }];
    this.#starts = new TextStarts({
      bytesMax: cutObstacle === null ? deps.textBytesMax : 0,
      addedCharsMax: Math.max(0, ...added.map(({ content }) => content.length)),
    });
    const cuts =
      cutObstacle === null
        ? `cut at ${added.length} added tokens`
        : `tokenised whole: ${cutObstacle}`;
    this.detail = `tokenizer of ${folder}, texts ${cuts}`;
  }

  /** Rejects with KvError ERR_TOKENIZER_UNREADABLE. Cost: half a second, 100 MB. */
  static async start(folder: string, deps: LocalTokenizerDeps): Promise<LocalTokenizer> {
    const template = templateOf(readTokenizerConfig(folder), folder, deps);
    const { worker, facts } = await TokenizerWorker.start(folder, deps);
    return new LocalTokenizer(folder, { worker, facts, template }, deps);
  }

  async stop(): Promise<void> {
    await this.#parts.worker.stop();
  }

  async tokenize(
    request: TokenizeRequest,
    signal: AbortSignal,
  ): Promise<Result<Tokenized, TokenizeRefusal>> {
    const rendered = this.#render(request);
    if (!rendered.ok) {
      if (rendered.reason !== "template-unsupported") return rendered;
      const asked = await this.#deps.otherwise.tokenize(request, signal);
      // Without an engine the reason is what it would have been asked for.
      return asked.ok || asked.reason !== "no-engine" ? asked : rendered;
    }
    if (!rendered.value.text.isWellFormed()) {
      return refused("not-unicode", "the text has half a surrogate pair");
    }
    const { before, after } = this.#parts.facts;
    const { text, isSpecialAdded } = rendered.value;
    const start = this.#starts.find(text);
    const parts = this.#cut(text, start.chars);
    const made = await this.#tokenizeParts(parts, signal);
    if (!made.ok) return made;
    const { lists, segments, segmentsKnown, source } = made.value;
    const tokens = joined([start.tokens, ...lists]);
    this.#starts.add({ text, start, parts, lists, tokens });
    return ok({
      source,
      tokens: isSpecialAdded ? joined([before, tokens, after]) : tokens,
      segments: start.segments + segments,
      segmentsKnown: start.segments + segmentsKnown,
    });
  }

  #render({ prompt, body }: TokenizeRequest): Result<RenderedChat, TokenizeRefusal> {
    if (prompt.kind === "text") {
      return ok({ text: prompt.text, isSpecialAdded: prompt.isSpecialAdded ?? true });
    }
    return isWrittenAlike(prompt.chat, body)
      ? this.#parts.template.render(prompt.chat)
      : refused("template-unsupported", "data that the engine writes in another form");
  }

  async #tokenizeParts(
    parts: readonly TextPart[],
    signal: AbortSignal,
  ): Promise<Result<Omit<Tokenized, "tokens"> & { lists: Ids[] }, TokenizeRefusal>> {
    const lists: (Ids | null)[] = [];
    const missing: { readonly piece: Piece; readonly at: number }[] = [];
    let segments = 0;
    for (const { text, id } of parts) {
      if (id !== null) {
        lists.push([id]);
        continue;
      }
      segments += 1;
      const key = memoKey(text);
      const known = this.#deps.memo.get(key);
      if (known === null) missing.push({ piece: { key, text }, at: lists.length });
      lists.push(known);
    }
    if (missing.length > 0) {
      const made = await this.#make(
        missing.map(({ piece }) => piece),
        signal,
      );
      if (!made.ok) return made;
      for (const [i, { at }] of missing.entries()) lists[at] = made.value[i] ?? null;
    }
    const segmentsKnown = segments - missing.length;
    const source = missing.length === 0 ? "memo" : "local";
    return ok({ source, segments, segmentsKnown, lists: lists.map((each) => each ?? []) });
  }

  /** Past the signal the pieces are made all the same, and remembered for the next request. */
  async #make(
    pieces: readonly Piece[],
    signal: AbortSignal,
  ): Promise<Result<Uint32Array[], TokenizeRefusal>> {
    const fresh = new Map(
      pieces.filter(({ key }) => !this.#underWay.has(key)).map(({ key, text }) => [key, text]),
    );
    if (fresh.size > 0) this.#begin([...fresh.keys()], [...fresh.values()]);
    const all = Promise.all(pieces.map(({ key }) => this.#underWay.get(key) ?? LOST));
    const made = await untilAborted(all, signal);
    if (made === null) return refused("deadline", "the text was not tokenised in time");
    const failed = made.find((each) => !each.ok);
    if (failed !== undefined && !failed.ok) return failed;
    return ok(made.flatMap((each) => (each.ok ? [each.value] : [])));
  }

  #begin(keys: readonly string[], texts: readonly string[]): void {
    const job = this.#parts.worker.tokenize(texts);
    for (const [i, key] of keys.entries()) {
      const made = job.then((result): Made => {
        this.#underWay.delete(key);
        if (!result.ok) return result;
        const tokens = result.value[i] ?? new Uint32Array(0);
        this.#deps.memo.set(key, tokens);
        return ok(tokens);
      });
      this.#underWay.set(key, made);
    }
  }
}

type Ids = Uint32Array | readonly number[];

const LOST: Made = refused("tokenizer-failed", "a piece was lost");

function templateOf(config: Fields, folder: string, deps: LocalTokenizerDeps): ChatTemplate {
  const { rules, clock } = deps;
  try {
    return new ChatTemplate(chatTemplatesOf(config), {
      special: specialTokensOf(config),
      rules,
      clock,
    });
  } catch (cause) {
    const message = `${folder}: the chat template is not understood: ${messageOf(cause)}`;
    throw new KvError("ERR_TOKENIZER_UNREADABLE", message, { cause });
  }
}

function joined(lists: readonly Ids[]): Uint32Array {
  const tokens = new Uint32Array(lists.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const list of lists) {
    tokens.set(list, at);
    at += list.length;
  }
  return tokens;
}

/** Null when the signal aborts first. */
function untilAborted<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value | null> {
  if (signal.aborted) return Promise.resolve(null);
  return new Promise((resolve) => {
    const abort = (): void => resolve(null);
    signal.addEventListener("abort", abort, { once: true });
    void work.then((value) => {
      signal.removeEventListener("abort", abort);
      resolve(value);
    });
  });
}
