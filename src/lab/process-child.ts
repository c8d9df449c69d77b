/** Starts a program, waits until it is ready, and ends it with certainty. */
import { type ChildProcess, spawn } from "node:child_process";
import { type Clock, sleep } from "../core/clock.ts";
import { KvError, messageOf } from "../core/errors.ts";
import { OutputTail } from "./process-output-tail.ts";

const READY_MS_DEFAULT = 15_000;
const STOP_MS_DEFAULT = 5000;
const POLL_MS = 20;

export interface ChildOptions {
  /** For messages. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly clock: Clock;
  /** Called for every line of output until it returns true: the child is then ready. */
  readonly isReadyLine?: (line: string) => boolean;
  /** Asked again and again until it resolves to true; a rejection means not yet. */
  readonly isReady?: () => Promise<boolean>;
  /** Time to become ready, ms. */
  readonly readyMs?: number;
  /** Time between SIGTERM and SIGKILL, ms. */
  readonly stopMs?: number;
}

export interface RunningChild {
  readonly pid: number;
  /** Resolves when the process has ended, for whatever reason. */
  readonly exited: Promise<void>;
  /** The last lines of stdout and stderr. */
  outputTail(): string;
  /** SIGTERM, then SIGKILL after `stopMs`. Resolves when the process has ended. */
  stop(): Promise<void>;
  /** SIGKILL at once. Resolves when the process has ended. */
  kill(): Promise<void>;
}

/**
 * Throws KvError ERR_PROCESS_FAILED when the program cannot be started or ends before it is ready,
 * ERR_TIMEOUT when it is not ready in time; it is then ended.
 *
 * The child is in a process group of its own, so that Ctrl-C reaches this process alone and
 * children are stopped in order. They are killed when this process exits; only a SIGKILL of this
 * process leaves them behind.
 */
export async function startChild(options: ChildOptions): Promise<RunningChild> {
  const child = new Child(options);
  await child.ready();
  return child;
}

class Child implements RunningChild {
  readonly exited: Promise<void>;
  readonly #options: ChildOptions;
  readonly #process: ChildProcess;
  readonly #output: OutputTail;
  readonly #ended = new AbortController();
  readonly #readyByLine = new AbortController();
  #spawnError: unknown = null;

  constructor(options: ChildOptions) {
    this.#options = options;
    this.#output = new OutputTail((line) => {
      if (!this.#readyByLine.signal.aborted && options.isReadyLine?.(line) === true) {
        this.#readyByLine.abort();
      }
    });
    this.#process = spawn(options.command, options.args, {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    const killOnExit = (): void => this.#signal("SIGKILL");
    process.on("exit", killOnExit);
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding("utf8");
      stream?.on("data", (text: string) => this.#output.push(text));
    }
    this.exited = new Promise((resolve) => {
      const done = (): void => {
        process.off("exit", killOnExit);
        this.#ended.abort();
        resolve();
      };
      // "close" follows when output has been read to its end; "error" when nothing was started.
      this.#process.once("close", done);
      this.#process.once("error", (reason) => {
        this.#spawnError = reason;
        if (this.#process.pid === undefined) done();
      });
    });
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  outputTail(): string {
    return this.#output.text();
  }

  async ready(): Promise<void> {
    const { name, clock, readyMs = READY_MS_DEFAULT } = this.#options;
    const endMs = clock.nowMs() + readyMs;
    const wake = AbortSignal.any([this.#ended.signal, this.#readyByLine.signal]);
    while (!this.#ended.signal.aborted) {
      if (await this.#isReady()) return;
      const leftMs = endMs - clock.nowMs();
      if (leftMs <= 0) {
        await this.kill();
        throw new KvError("ERR_TIMEOUT", this.#message(`${name} is not ready after ${readyMs} ms`));
      }
      const isPolled = this.#options.isReady !== undefined;
      await sleep(clock, isPolled ? Math.min(POLL_MS, leftMs) : leftMs, wake);
    }
    await this.exited;
    const how =
      this.#spawnError === null
        ? `${name} ended with ${this.#process.exitCode ?? this.#process.signalCode} before it was ready`
        : `${name} cannot be started: ${messageOf(this.#spawnError)}`;
    throw new KvError("ERR_PROCESS_FAILED", this.#message(how), { cause: this.#spawnError });
  }

  async stop(): Promise<void> {
    const { clock, stopMs = STOP_MS_DEFAULT } = this.#options;
    this.#signal("SIGTERM");
    await sleep(clock, stopMs, this.#ended.signal);
    await this.kill();
  }

  async kill(): Promise<void> {
    this.#signal("SIGKILL");
    await this.exited;
  }

  async #isReady(): Promise<boolean> {
    const { isReady } = this.#options;
    if (isReady === undefined) return this.#readyByLine.signal.aborted;
    try {
      return await isReady();
    } catch {
      return false;
    }
  }

  #signal(signal: "SIGTERM" | "SIGKILL"): void {
    if (!this.#ended.signal.aborted) this.#process.kill(signal);
  }

  #message(what: string): string {
    const tail = this.outputTail();
    return tail === "" ? what : `${what}; its last output:\n${tail}`;
  }
}
