/**
 * Reads the endpoints file and follows its changes.
 *
 * The file is polled: editors replace files, and Kubernetes swaps a symlink of a ConfigMap, both
 * of which end a file watch without a word. A version that is not accepted is refused as a whole:
 * it is logged line by line and counted, and the former endpoints stay.
 */
import { readFile, stat } from "node:fs/promises";
import { type Clock, sleep } from "../core/clock.ts";
import { KvError, messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { EndpointSpec } from "./endpoint.ts";
import { ENDPOINTS_BYTES_MAX } from "./endpoints-file.ts";

const POLL_MS = 1000;

export type EndpointsParse =
  | { readonly ok: true; readonly specs: readonly EndpointSpec[] }
  /** One line each, with file, place, value and what is expected. */
  | { readonly ok: false; readonly problems: readonly string[] };

export interface FileEndpointsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  readonly parse: (text: string) => EndpointsParse;
  /** Called with each accepted version, the first within `start`. */
  readonly onSpecs: (specs: readonly EndpointSpec[]) => void;
}

export class FileEndpoints {
  readonly #deps: FileEndpointsDeps;
  readonly #path: string;
  readonly #stopped = new AbortController();
  /** Identity of the version that was last looked at, accepted or not. */
  #version = "";
  #polling: Promise<void> = Promise.resolve();

  constructor(deps: FileEndpointsDeps, path: string) {
    this.#deps = deps;
    this.#path = path;
  }

  /** Throws KvError when the file cannot be read or is not accepted: there is no former set. */
  async start(): Promise<void> {
    this.#version = await this.#identity();
    const outcome = await this.#read();
    if (!outcome.ok) {
      const isInvalid = outcome.kind === "invalid";
      const code = isInvalid ? "ERR_CONFIG_INVALID" : "ERR_CONFIG_UNREADABLE";
      throw new KvError(code, outcome.problems.join("\n"));
    }
    this.#deps.onSpecs(outcome.specs);
    this.#polling = this.#poll();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#polling;
  }

  /** Reads the file if it is another version than the last; the poll's one step. */
  async check(): Promise<void> {
    const version = await this.#identity();
    if (version === this.#version) return;
    const outcome = await this.#read();
    // A file that changes while it is read may be cut: it is left to the next poll.
    if ((await this.#identity()) !== version) return;
    this.#version = version;
    if (outcome.ok) {
      this.#count("applied");
      this.#deps.onSpecs(outcome.specs);
      return;
    }
    this.#count(outcome.kind);
    const { problems } = outcome;
    this.#deps.log.error(
      { file: this.#path, problems },
      "endpoints file refused, former set stays",
    );
  }

  async #poll(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await sleep(this.#deps.clock, POLL_MS, signal);
      if (!signal.aborted) await this.check();
    }
  }

  /** Changes with each way of writing the file; "absent" while it cannot be looked at. */
  async #identity(): Promise<string> {
    try {
      const { dev, ino, size, mtimeNs } = await stat(this.#path, { bigint: true });
      return `${dev}:${ino}:${size}:${mtimeNs}`;
    } catch {
      return "absent";
    }
  }

  async #read(): Promise<
    | { readonly ok: true; readonly specs: readonly EndpointSpec[] }
    | { readonly ok: false; readonly kind: "invalid" | "unreadable"; readonly problems: string[] }
  > {
    try {
      const { size } = await stat(this.#path);
      if (size > ENDPOINTS_BYTES_MAX) {
        const problem = `${this.#path}: ${size} bytes, limit ${ENDPOINTS_BYTES_MAX}`;
        return { ok: false, kind: "invalid", problems: [problem] };
      }
      const parsed = this.#deps.parse(await readFile(this.#path, "utf8"));
      return parsed.ok ? parsed : { ok: false, kind: "invalid", problems: [...parsed.problems] };
    } catch (reason) {
      return { ok: false, kind: "unreadable", problems: [`${this.#path}: ${messageOf(reason)}`] };
    }
  }

  #count(outcome: "applied" | "invalid" | "unreadable"): void {
    this.#deps.meter.count("kvatlas_fleet_reloads_total", { outcome });
  }
}
