/** A thread that is begun again when it fails, and asked now and then whether it still answers. */
import { type Clock, sleep } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import { type LogLine, ThreadLife } from "./thread-life.ts";

/** Failures in a row after which no other thread is begun. */
const CRASHES_MAX = 5;
/** A thread that ran for so long begins another row, ms. */
const STEADY_MS = 60_000;
/** Pause before another thread, doubled in a row, ms. */
const RESTART_MS = 250;
/** The thread is asked this often; it is stalled while a whole interval brought no answer, ms. */
const ASK_MS = 5000;

export interface ThreadFailure {
  readonly error: string;
  /** In a row, this one among them. */
  readonly crashes: number;
  /** No other is begun. */
  readonly isLast: boolean;
}

export interface KeptThreadOptions<Say, Own extends { readonly kind: string }> {
  /** See ThreadLife. */
  readonly code: URL;
  /** With which a life begins. */
  readonly data: () => object;
  /** To be answered by "told" with the same number. */
  readonly question: (id: number) => Say;
  readonly onTold: (message: Own) => void;
  readonly onFailed: (failure: ThreadFailure) => void;
  /** ASK_MS have passed without an answer, or it answers again. */
  readonly onAnswering: (isAnswering: boolean) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export class KeptThread<Say, Own extends { readonly kind: string }> {
  readonly #options: KeptThreadOptions<Say, Own>;
  readonly #abort = new AbortController();
  #life: ThreadLife<Say, Own> | null = null;
  #crashes = 0;

  /** Begins at once. */
  constructor(options: KeptThreadOptions<Say, Own>) {
    this.#options = options;
    this.#begin();
    void this.#watch();
  }

  /** Lost where no thread lives. */
  say(message: Say): void {
    this.#life?.say(message);
  }

  /** See ThreadLife.ask; null where no thread lives, and after `waitMs`. */
  async ask(question: (id: number) => Say, waitMs: number): Promise<number | null> {
    const told = new AbortController();
    let answer: number | null = null;
    if (this.#life === null) return null;
    void this.#life.ask(question).then((value) => {
      answer = value;
      told.abort();
    });
    await sleep(this.#options.clock, waitMs, told.signal);
    return answer;
  }

  /** No life follows this one: resolves when it is over, or after `waitMs`. */
  async end(message: Say, waitMs: number): Promise<void> {
    this.#abort.abort();
    const ended = new AbortController();
    if (this.#life === null) return;
    void this.#life.end(message).then(() => ended.abort());
    await sleep(this.#options.clock, waitMs, ended.signal);
  }

  /** Ends this life as a failed one. */
  cut(): void {
    this.#life?.cut();
  }

  #begin(): void {
    const { clock, log, code, data, onTold } = this.#options;
    const beganMs = clock.nowMs();
    this.#life = new ThreadLife<Say, Own>(code, data(), {
      onTold: (message): void => {
        if (isLog(message)) log[message.level](message.fields, message.message);
        else onTold(message);
      },
      onEnd: (failure): void => {
        this.#life = null;
        if (failure === null) return;
        if (!this.#abort.signal.aborted) void this.#recover(failure, beganMs);
        else log.error({ error: failure }, "a thread failed at its end");
      },
    });
  }

  async #recover(error: string, beganMs: number): Promise<void> {
    const { clock, onFailed } = this.#options;
    this.#crashes = clock.nowMs() - beganMs >= STEADY_MS ? 1 : this.#crashes + 1;
    const isLast = this.#crashes >= CRASHES_MAX;
    onFailed({ error, crashes: this.#crashes, isLast });
    if (isLast) return;
    await sleep(clock, RESTART_MS * 2 ** (this.#crashes - 1), this.#abort.signal);
    if (!this.#abort.signal.aborted) this.#begin();
  }

  async #watch(): Promise<void> {
    const { clock, question, onAnswering } = this.#options;
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const life = this.#life;
      let isAnswered = life === null;
      void life?.ask(question).then(() => {
        isAnswered = true;
        if (life === this.#life) onAnswering(true);
      });
      await sleep(clock, ASK_MS, signal);
      if (!isAnswered && !signal.aborted) onAnswering(false);
    }
  }
}

function isLog<Own extends { readonly kind: string }>(message: Own | LogLine): message is LogLine {
  return message.kind === "log";
}
