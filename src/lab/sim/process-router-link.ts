/** A router of the simulate protocol in a process beside: JSON lines over its stdin and stdout. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { z } from "zod";
import type { Clock } from "../../core/clock.ts";
import { KvError, messageOf } from "../../core/errors.ts";
import type {
  InitMessage,
  RouteAnswer,
  RouteMessage,
  SimulateMessage,
} from "../simulate/messages.ts";
import type { RouterLink } from "./router-link.ts";

/** Real time that an answer may take, ms. */
const ANSWER_MS_MAX = 60_000;
/** Notices gathered before they are written. */
const PENDING_LINES_MAX = 1024;

const answerSchema = z.object({
  pod: z.string().nullable(),
  decode_pod: z.string().nullish(),
  share: z.string().optional(),
});

export class ProcessRouterLink implements RouterLink {
  readonly #command: string;
  readonly #clock: Clock;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: string[] = [];
  #pending: string[] = [];
  #wake: () => void = () => {};
  #exit: string | null = null;
  readonly #exited: Promise<void>;

  /** `command` is run by the shell. */
  constructor(command: string, clock: Clock) {
    this.#command = command;
    this.#clock = clock;
    this.#child = spawn(command, { shell: true, stdio: ["pipe", "pipe", "inherit"] });
    const killOnExit = (): void => {
      this.#child.kill();
    };
    process.on("exit", killOnExit);
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      this.#lines.push(line);
      this.#wake();
    });
    // A write to a process that has ended; its exit says more.
    this.#child.stdin.on("error", () => {});
    this.#exited = new Promise((resolve) => {
      const done = (how: string): void => {
        process.off("exit", killOnExit);
        this.#exit = how;
        this.#wake();
        resolve();
      };
      this.#child.once("close", (code, signal) => done(`ended with ${code ?? signal}`));
      this.#child.once("error", (error) => done(`cannot be started: ${error.message}`));
    });
  }

  async init(message: InitMessage): Promise<void> {
    await this.#ask(message);
  }

  async route(message: RouteMessage): Promise<RouteAnswer> {
    const text = await this.#ask(message);
    try {
      const { pod, decode_pod, share } = answerSchema.parse(JSON.parse(text));
      return {
        pod,
        ...(decode_pod === undefined ? {} : { decode_pod }),
        ...(share === undefined ? {} : { share }),
      };
    } catch (cause) {
      throw this.#failed(`its answer to route ${message.id} is none: ${messageOf(cause)}`, cause);
    }
  }

  tell(message: SimulateMessage): void {
    this.#pending.push(JSON.stringify(message));
    if (this.#pending.length >= PENDING_LINES_MAX) this.#flush();
  }

  async end(): Promise<void> {
    this.tell({ op: "end" });
    this.#flush();
    this.#child.stdin.end();
    await this.#within(this.#exited);
  }

  async #ask(message: InitMessage | RouteMessage): Promise<string> {
    this.tell(message);
    this.#flush();
    if (this.#lines.length === 0 && this.#exit === null) {
      await this.#within(
        new Promise((resolve) => {
          this.#wake = resolve;
        }),
      );
    }
    const line = this.#lines.shift();
    if (line === undefined) throw this.#failed(this.#exit ?? `no answer in ${ANSWER_MS_MAX} ms`);
    return line;
  }

  /** Waits for it, or for the time that an answer may take; then the child is ended. */
  async #within(done: Promise<void>): Promise<void> {
    let cancel = (): void => {};
    const late = new Promise<void>((resolve) => {
      cancel = this.#clock.after(ANSWER_MS_MAX, () => {
        this.#child.kill();
        resolve();
      });
    });
    await Promise.race([done, late]);
    cancel();
  }

  #flush(): void {
    this.#child.stdin.write(`${this.#pending.join("\n")}\n`);
    this.#pending = [];
  }

  #failed(what: string, cause?: unknown): KvError {
    return new KvError("ERR_PROCESS_FAILED", `router "${this.#command}": ${what}`, { cause });
  }
}
