/**
 * Text becomes token ids in this process: chats through the model's template, texts cut at added
 * tokens, pieces remembered, and what is new tokenised on another thread.
 */
import { ok, type Result, refused } from "../core/result.ts";
import { rendered, templateOf } from "./chat-rendering.ts";
import type { ChatTemplate, RenderedChat } from "./chat-template.ts";
import { readTokenizerConfig } from "./file-tokenizer.ts";
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
  /** Bytes of long texts that are kept beside the memo, with their token ids. */
  readonly textBytesMax: number;
  /** For what cannot be rendered here as the engine does it. */
  readonly otherwise: PromptTokenizer;
}

/**
 * Characters of a job for the thread that short texts wait for: some 5 ms of prose, 30 where they are one
 * word, and 160 where it is one of Chinese characters.
 */
const SHORT_CHARS_MAX = 16_384;
/**
 * Messages of a chat that is rendered on this thread, some 2 ms, or 10 while little was rendered before; and
 * on that for short texts, four times as long.
 */
const RENDERED_HERE_MAX = 256;
const SHORT_MESSAGES_MAX = 1024;

interface Parts {
  readonly worker: TokenizerWorker;
  readonly facts: TokenizerFacts;
  readonly template: ChatTemplate;
  /** Started when there is a first long job: it costs as much memory again. */
  readonly startLong: () => Promise<TokenizerWorker>;
}

/** A text between two added tokens. */
interface Piece {
  readonly key: string;
  readonly text: string;
}

type Made = Result<Uint32Array, TokenizeRefusal>;
type Rendered = Result<RenderedChat, TokenizeRefusal>;

export class LocalTokenizer implements PromptTokenizer {
  /** What was read and how texts are cut, for people. */
  readonly detail: string;
  readonly #deps: LocalTokenizerDeps;
  readonly #parts: Parts;
  readonly #cut: (text: string, from: number) => TextPart[];
  /** Empty where texts are not cut. */
  readonly #starts: TextStarts;
  readonly #doubts: readonly { readonly name: string; readonly pattern: RegExp }[];
  #long: Promise<TokenizerWorker> | null = null;
  #isStopped = false;
  /** Pieces under way, by their key: as many as the worker lets wait. */
  readonly #underWay = new Map<string, Promise<Made>>();

  private constructor(folder: string, parts: Parts, deps: LocalTokenizerDeps) {
    this.#deps = deps;
    this.#parts = parts;
    const { cutObstacle, added, doubts } = parts.facts;
    this.#doubts = doubts.map(({ name, pattern }) => ({ name, pattern: new RegExp(pattern) }));
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
    const template = templateOf({ folder, config: readTokenizerConfig(folder) }, deps);
    const { worker, facts } = await TokenizerWorker.start(folder, deps);
    const startLong = async (): Promise<TokenizerWorker> =>
      (await TokenizerWorker.start(folder, deps)).worker;
    return new LocalTokenizer(folder, { worker, facts, template, startLong }, deps);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#parts.worker.stop();
    await (await this.#long?.catch(() => null))?.stop();
  }

  async tokenize(
    request: TokenizeRequest,
    signal: AbortSignal,
  ): Promise<Result<Tokenized, TokenizeRefusal>> {
    // No turn of the queue before what is new has gone to its thread.
    const made = this.#render(request, signal);
    const chat = this.#checked(made instanceof Promise ? await made : made);
    if (!chat.ok) {
      if (!ASKED_ELSEWHERE.includes(chat.reason)) return chat;
      const asked = await this.#deps.otherwise.tokenize(request, signal);
      // Without an engine the reason is what it would have been asked for.
      return asked.ok || asked.reason !== "no-engine" ? asked : chat;
    }
    const { before, after } = this.#parts.facts;
    const { text, isSpecialAdded } = chat.value;
    const start = this.#starts.find(text);
    const parts = this.#cut(text, start.chars);
    const pieces = await this.#tokenizeParts(parts, signal);
    if (!pieces.ok) return pieces;
    const { lists, segments, segmentsKnown, source } = pieces.value;
    const tokens = joined([start.tokens, ...lists]);
    this.#starts.add({ text, start, parts, lists, tokens });
    return ok({
      source,
      tokens: isSpecialAdded ? joined([before, tokens, after]) : tokens,
      segments: start.segments + segments,
      segmentsKnown: start.segments + segmentsKnown,
    });
  }

  #render(
    { prompt, route, body }: TokenizeRequest,
    signal: AbortSignal,
  ): Rendered | Promise<Rendered> {
    if (prompt.kind === "text") {
      return ok({ text: prompt.text, isSpecialAdded: prompt.isSpecialAdded ?? true });
    }
    const { chat } = prompt;
    if (chat.messages.length <= RENDERED_HERE_MAX || route === "") {
      return rendered(this.#parts.template, chat, body);
    }
    const isLong = chat.messages.length > SHORT_MESSAGES_MAX;
    const work = this.#onWorker({ isLong }, (worker) => worker.render(route, body));
    return untilAborted(work, signal).then((result) => result ?? LATE);
  }

  #checked(made: Rendered): Rendered {
    if (!made.ok) return made;
    const { text } = made.value;
    if (!text.isWellFormed()) return refused("not-unicode", "the text has half a surrogate pair");
    const doubt = this.#doubts.find(({ pattern }) => pattern.test(text));
    return doubt === undefined ? made : refused("tokenizer-unsupported", doubt.name);
  }

  /** Long jobs have a thread of their own: others would wait for them. */
  async #onWorker<Value>(
    { isLong }: { readonly isLong: boolean },
    work: (worker: TokenizerWorker) => Promise<Value>,
  ): Promise<Value | typeof NOT_STARTED> {
    if (!isLong || this.#isStopped) return await work(this.#parts.worker);
    this.#long ??= this.#parts.startLong();
    const worker = await this.#long.catch(() => null);
    if (worker !== null) return await work(worker);
    this.#long = null;
    return NOT_STARTED;
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
    if (made === null) return LATE;
    const failed = made.find((each) => !each.ok);
    if (failed !== undefined && !failed.ok) return failed;
    return ok(made.flatMap((each) => (each.ok ? [each.value] : [])));
  }

  #begin(keys: readonly string[], texts: readonly string[]): void {
    const chars = texts.reduce((sum, { length }) => sum + length, 0);
    const isLong = chars > SHORT_CHARS_MAX;
    const job = this.#onWorker({ isLong }, (worker) => worker.tokenize(texts));
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
const LATE = refused("deadline", "the text was not tokenised in time");
const NOT_STARTED = refused("tokenizer-failed", "the thread for long texts does not start");
/** Reasons with which an engine is asked. */
const ASKED_ELSEWHERE: readonly TokenizeRefusal[] = [
  "template-unsupported",
  "tokenizer-unsupported",
];

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
