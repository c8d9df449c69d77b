/** One life of the write path's thread: begun, spoken with, ended. */
import { Worker } from "node:worker_threads";
import { messageOf } from "../core/errors.ts";
import type { FromWriter, ToWriter, WriterData } from "./ingest-messages.ts";

/** The same place and ending in a checkout and in a package. */
const CODE = new URL(
  import.meta.url.endsWith(".ts") ? "./ingest-worker.ts" : "./ingest-worker.js",
  import.meta.url,
);

type Told = Extract<FromWriter, { kind: "open" | "news" | "log" }>;

export interface WriterEvents {
  readonly onTold: (message: Told) => void;
  /** The thread is over; `failure` null: it ended as it was told. Called once. */
  readonly onEnd: (failure: string | null) => void;
}

export class IngestWriter {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, () => void>();
  readonly #ended: Promise<void>;
  #tellNext = 0;
  #failure = "the thread ended by itself";

  constructor(data: WriterData, { onTold, onEnd }: WriterEvents) {
    this.#worker = new Worker(CODE, { workerData: data });
    this.#worker.on("message", (message: FromWriter) => {
      if (message.kind === "crashed") this.#failure = message.error;
      else if (message.kind === "told") this.#told(message.id);
      else onTold(message);
    });
    this.#worker.on("error", (error) => {
      this.#failure = messageOf(error);
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.once("exit", (code) => {
        resolve();
        for (const id of this.#waiting.keys()) this.#told(id);
        onEnd(code === 0 ? null : this.#failure);
      });
    });
  }

  say(message: ToWriter): void {
    this.#worker.postMessage(message);
  }

  /** Resolves when all that is known by now was told, or the thread is over. */
  tell(): Promise<void> {
    const id = this.#tellNext;
    this.#tellNext += 1;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.say({ kind: "tell", id });
    });
  }

  /** Resolves when the thread is over. */
  end(how: "stop" | "abandon"): Promise<void> {
    this.say({ kind: how });
    return this.#ended;
  }

  #told(id: number): void {
    this.#waiting.get(id)?.();
    this.#waiting.delete(id);
  }
}
