/** One life of a thread of the router: begun, spoken with, ended. */
import { Worker } from "node:worker_threads";
import { messageOf } from "../core/errors.ts";
import type { LogFields } from "../core/log.ts";

export interface LogLine {
  readonly kind: "log";
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: LogFields;
  readonly message: string;
}

/** What every such thread tells, beside what is its own. */
export type FromThread =
  | LogLine
  /** Answers the question of that number. */
  | { readonly kind: "told"; readonly id: number; readonly value?: number }
  /** The thread ends, because its code failed. */
  | { readonly kind: "crashed"; readonly error: string };

export interface ThreadEvents<Own> {
  readonly onTold: (message: Own | LogLine) => void;
  /** The thread is over; `failure` null: it ended as it was told. Called once. */
  readonly onEnd: (failure: string | null) => void;
}

/** `Say`: what it is told. `Own`: what it tells. Plain data only. */
export class ThreadLife<Say, Own extends { readonly kind: string }> {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, (value: number | null) => void>();
  readonly #ended: Promise<void>;
  #askNext = 0;
  #isEnding = false;
  #failure = "the thread ended by itself";

  /** `code`: what it runs, without the ending, which is another in a checkout than in a package. */
  constructor(code: URL, data: object, { onTold, onEnd }: ThreadEvents<Own>) {
    const ending = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
    this.#worker = new Worker(new URL(code.href + ending), { workerData: data });
    this.#worker.on("message", (message: Own | FromThread) => {
      if (isKind(message, "crashed")) this.#failure = message.error;
      else if (isKind(message, "told")) this.#told(message.id, message.value ?? 0);
      else onTold(message);
    });
    this.#worker.on("error", (error) => {
      this.#failure = messageOf(error);
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.once("exit", (code) => {
        resolve();
        for (const id of this.#waiting.keys()) this.#told(id, null);
        onEnd(code === 0 && this.#isEnding ? null : this.#failure);
      });
    });
  }

  say(message: Say): void {
    this.#worker.postMessage(message);
  }

  /** Resolves with what was answered; null: the thread is over. */
  ask(question: (id: number) => Say): Promise<number | null> {
    const id = this.#askNext;
    this.#askNext += 1;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.say(question(id));
    });
  }

  /** Resolves when the thread is over. */
  end(message: Say): Promise<void> {
    this.#isEnding = true;
    this.say(message);
    return this.#ended;
  }

  /** Whatever it does: it ends as a thread that failed. */
  cut(): void {
    void this.#worker.terminate();
  }

  #told(id: number, value: number | null): void {
    this.#waiting.get(id)?.(value);
    this.#waiting.delete(id);
  }
}

function isKind<Kind extends FromThread["kind"]>(
  message: { readonly kind: string },
  kind: Kind,
): message is Extract<FromThread, { kind: Kind }> {
  return message.kind === kind;
}
