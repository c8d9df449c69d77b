/**
 * A thread with a tokenizer, seen from outside: jobs wait here, the shortest goes first, and one is
 * under way at a time. A job that takes too long costs the thread, which is started anew.
 */
import { Worker } from "node:worker_threads";
import type { Clock } from "../core/clock.ts";
import { KvError, messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { ok, type Result, refused } from "../core/result.ts";
import type { RenderedChat, TemplateRefusal } from "./chat-template.ts";
import type { EngineRules } from "./engine-rules.ts";
import type {
  ThreadAnswer,
  ThreadJob,
  ThreadSetup,
  ThreadTask,
  ThreadValue,
  TokenizerFacts,
} from "./tokenizer-thread.ts";

/** Characters of the jobs that wait; bytes of those that are chats to be rendered. */
const PENDING_CHARS_MAX = 16_777_216;
/** Time for one job, ms; hostile text can be slow to split. */
const JOB_MS_MAX = 10_000;

/**
 * - tokenizer-busy: with this text more would wait than PENDING_CHARS_MAX
 * - tokenizer-failed: the tokenizer threw, took too long, or was stopped
 */
export type WorkerRefusal = "tokenizer-busy" | "tokenizer-failed";

export type WorkerResult = Result<readonly Uint32Array[], WorkerRefusal>;

export interface TokenizerWorkerDeps {
  readonly rules: EngineRules;
  readonly clock: Clock;
  readonly log: Log;
}

interface Job {
  readonly task: ThreadTask;
  readonly chars: number;
  readonly end: (result: Result<ThreadValue, WorkerRefusal>) => void;
}

export class TokenizerWorker {
  readonly #folder: string;
  readonly #deps: TokenizerWorkerDeps;
  readonly #waiting: Job[] = [];
  #waitingChars = 0;
  #worker: Worker | null = null;
  #current: { readonly id: number; readonly job: Job; readonly cancel: () => void } | null = null;
  #nextId = 0;
  #isStopped = false;

  private constructor(folder: string, deps: TokenizerWorkerDeps) {
    this.#folder = folder;
    this.#deps = deps;
  }

  /** Resolves when the tokenizer is loaded; rejects with KvError ERR_TOKENIZER_UNREADABLE. */
  static async start(
    folder: string,
    deps: TokenizerWorkerDeps,
  ): Promise<{ readonly worker: TokenizerWorker; readonly facts: TokenizerFacts }> {
    const worker = new TokenizerWorker(folder, deps);
    const facts = await worker.#open();
    return { worker, facts };
  }

  /** Token ids of each text, without special tokens. Never rejects. */
  async tokenize(texts: readonly string[]): Promise<WorkerResult> {
    const chars = texts.reduce((sum, { length }) => sum + length, 0);
    const done = await this.#ask({ kind: "tokenize", texts }, chars);
    if (!done.ok) return done;
    return done.value.kind === "tokens" ? ok(done.value.tokens) : MIXED_UP;
  }

  /** Text of the chat in a request's body. Never rejects. */
  async render(
    route: string,
    body: Uint8Array,
  ): Promise<Result<RenderedChat, WorkerRefusal | TemplateRefusal>> {
    const done = await this.#ask(
      { kind: "render", route, body: new Uint8Array(body) },
      body.length,
    );
    if (!done.ok) return done;
    return done.value.kind === "rendered" ? done.value.rendered : MIXED_UP;
  }

  #ask(task: ThreadTask, chars: number): Promise<Result<ThreadValue, WorkerRefusal>> {
    if (this.#isStopped) return Promise.resolve(STOPPED);
    if (this.#waitingChars + chars > PENDING_CHARS_MAX) {
      const detail = `${chars} characters, ${this.#waitingChars} wait, limit ${PENDING_CHARS_MAX}`;
      return Promise.resolve(refused("tokenizer-busy", detail));
    }
    return new Promise((end) => {
      this.#waiting.push({ task, chars, end });
      this.#waitingChars += chars;
      this.#next();
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#end(STOPPED);
    for (const { end } of this.#waiting.splice(0)) end(STOPPED);
    await this.#worker?.terminate();
  }

  async #open(): Promise<TokenizerFacts> {
    const { promise, resolve, reject } = Promise.withResolvers<TokenizerFacts>();
    const unready = (message: string): void =>
      reject(new KvError("ERR_TOKENIZER_UNREADABLE", message));
    // The ending of this file: .ts in a checkout, .js in a package.
    const ending = import.meta.url.slice(import.meta.url.lastIndexOf("."));
    const url = new URL(`./tokenizer-thread${ending}`, import.meta.url);
    const workerData: ThreadSetup = { folder: this.#folder, rules: this.#deps.rules };
    const worker = new Worker(url, { workerData });
    this.#worker = worker;
    worker.on("message", (answer: ThreadAnswer) => {
      if (answer.kind === "ready") resolve(answer.facts);
      else if (answer.kind === "unready") unready(answer.message);
      else if (answer.id === this.#current?.id) {
        this.#end(
          answer.kind === "done" ? ok(answer.value) : refused("tokenizer-failed", answer.message),
        );
        this.#next();
      }
    });
    worker.on("error", (error) => {
      unready(messageOf(error));
      if (this.#worker === worker) this.#renew(messageOf(error));
    });
    return await promise;
  }

  #next(): void {
    if (this.#current !== null || this.#worker === null) return;
    const job = this.#waiting.reduce<Job | null>(
      (least, each) => (least === null || each.chars < least.chars ? each : least),
      null,
    );
    if (job === null) return;
    this.#waiting.splice(this.#waiting.indexOf(job), 1);
    this.#waitingChars -= job.chars;
    this.#nextId += 1;
    const id = this.#nextId;
    const cancel = this.#deps.clock.after(JOB_MS_MAX, () =>
      this.#renew(`a job of ${job.chars} characters took over ${JOB_MS_MAX} ms`),
    );
    this.#current = { id, job, cancel };
    const message: ThreadJob = { id, task: job.task };
    this.#worker.postMessage(message);
  }

  #end(result: Result<ThreadValue, WorkerRefusal>): void {
    const current = this.#current;
    this.#current = null;
    current?.cancel();
    current?.job.end(result);
  }

  /** Another thread takes the place of one that hangs or has died. */
  #renew(why: string): void {
    if (this.#isStopped) return;
    this.#deps.log.warn({ why }, "the tokenizer's thread is started anew");
    void this.#worker?.terminate();
    this.#worker = null;
    this.#end(refused("tokenizer-failed", why));
    this.#open().then(
      () => this.#next(),
      (error: unknown) => {
        this.#deps.log.error({ error: messageOf(error) }, "the tokenizer cannot be loaded");
        this.#isStopped = true;
        for (const { end } of this.#waiting.splice(0)) end(STOPPED);
      },
    );
  }
}

const STOPPED = refused("tokenizer-failed", "the tokenizer is stopped");
const MIXED_UP = refused("tokenizer-failed", "the thread has done another job");
