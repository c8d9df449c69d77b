/** The store as the thread with the residency sees it: its work is done in a thread of its own. */
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { Aside } from "./file-store-guard.ts";
import type { Flush } from "./flush-rounds.ts";
import type { PagePortion, StoreContents } from "./lmdb-store.ts";
import type { StoreProblem } from "./store-problem.ts";

/**
 * Young objects of the store's thread, MB. It makes little garbage, and V8 would let that room grow with
 * every stall of the machine.
 */
const STORE_YOUNG_MB_MAX = 6;

export type StoreRequest =
  | { readonly type: "open"; readonly path: string; readonly keySeed: number }
  | { readonly type: "read"; readonly bytesMax: number }
  | { readonly type: "write"; readonly flush: Flush }
  | { readonly type: "renew" }
  | { readonly type: "close" };

export type StoreAnswer =
  | { readonly type: "opened"; readonly contents: StoreContents; readonly aside: Aside | null }
  | { readonly type: "portion"; readonly portion: PagePortion }
  | { readonly type: "written"; readonly memory: ArrayBuffer }
  | { readonly type: "done" }
  | { readonly type: "failed"; readonly problem: StoreProblem; readonly message: string };

/** The store did not do what it was asked. */
export class StoreError extends Error {
  readonly problem: StoreProblem;

  constructor(problem: StoreProblem, message: string) {
    super(message);
    this.name = "StoreError";
    this.problem = problem;
  }
}

export interface OpenedStore {
  readonly contents: StoreContents;
  /** A store that could not be used and was moved aside. */
  readonly aside: Aside | null;
}

/** Every method rejects with StoreError. */
export class LmdbStoreThread {
  // The worker's file ends as this one does: .ts from a checkout, .js from a package. What the process
  // was started with (--eval, --input-type) is not for it.
  readonly #worker = new Worker(
    new URL(`./lmdb-store-worker${extname(import.meta.url)}`, import.meta.url),
    { execArgv: [], resourceLimits: { maxYoungGenerationSizeMb: STORE_YOUNG_MB_MAX } },
  );
  readonly #waiting: ((answer: StoreAnswer) => void)[] = [];
  /** Why the thread is gone; null: it works. */
  #end: StoreAnswer | null = null;

  constructor() {
    this.#worker.on("message", (answer: StoreAnswer) => this.#waiting.shift()?.(answer));
    this.#worker.on("error", ({ message }) => this.#ended(message));
    this.#worker.on("exit", (code) => this.#ended(`the store's thread ended with ${code}`));
  }

  /** Opens the store in the folder `path`: see LmdbStore. */
  async open(path: string, keySeed: number): Promise<OpenedStore> {
    const answer = await this.#ask({ type: "open", path, keySeed });
    if (answer.type !== "opened") throw new StoreError("failed", `answer ${answer.type}`);
    return answer;
  }

  /** The next pages, about `bytesMax`; null: all were read. */
  async read(bytesMax: number): Promise<PagePortion | null> {
    const answer = await this.#ask({ type: "read", bytesMax });
    return answer.type === "portion" ? answer.portion : null;
  }

  /** Writes a flush; its bytes are gone from here, and come back as the memory that they were in. */
  async write(flush: Flush): Promise<ArrayBuffer> {
    const answer = await this.#ask({ type: "write", flush }, [flush.bytes.buffer]);
    if (answer.type !== "written") throw new StoreError("failed", `answer ${answer.type}`);
    return answer.memory;
  }

  /** Moves a store aside that LMDB found damaged, and begins an empty one. */
  async renew(): Promise<void> {
    await this.#ask({ type: "renew" });
  }

  /** Closes the store and ends the thread; never rejects. */
  async close(): Promise<void> {
    await this.#ask({ type: "close" }).catch(() => {});
    await this.#worker.terminate();
  }

  async #ask(request: StoreRequest, transfer: ArrayBuffer[] = []): Promise<StoreAnswer> {
    const answer = await new Promise<StoreAnswer>((resolve) => {
      if (this.#end !== null) return resolve(this.#end);
      this.#waiting.push(resolve);
      this.#worker.postMessage(request, transfer);
    });
    if (answer.type === "failed") throw new StoreError(answer.problem, answer.message);
    return answer;
  }

  #ended(message: string): void {
    this.#end ??= { type: "failed", problem: "failed", message };
    for (const answer of this.#waiting.splice(0)) answer(this.#end);
  }
}
