/**
 * Compares prompts' token ids with each endpoint's, when it has arrived and now and then: one endpoint
 * at a time, off the request path.
 */
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Meter } from "../core/meter.ts";
import type { Finding } from "../fleet/findings.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { EngineRules } from "../prompt/engine-rules.ts";
import {
  checkParity,
  type MismatchCause,
  type ParityResult,
  type ParityState,
} from "../prompt/parity.ts";
import type { PromptTokenizer } from "../prompt/prompt-tokenizer.ts";

const LOOK_MS = 1000;
/** Time after which an endpoint is compared again, ms; one that could not be, sooner. */
const AGAIN_MS = 600_000;
const UNAVAILABLE_AGAIN_MS = 30_000;
/** Time for the canaries of one endpoint, ms. */
const CHECK_MS_MAX = 10_000;

export interface ParityReport {
  /** pending: not compared yet, or text is not tokenised. */
  readonly state: ParityState | "pending";
  readonly cause: MismatchCause | null;
  readonly detail: string;
}

export interface ParityWatchDeps {
  readonly fleet: Fleet;
  readonly model: string;
  /** Null: nothing is compared. */
  readonly tokenizer: PromptTokenizer | null;
  readonly rules: EngineRules;
  readonly clock: Clock;
  readonly meter: Meter;
}

interface Compared {
  readonly result: ParityResult;
  readonly againMs: number;
}

export class ParityWatch {
  readonly #deps: ParityWatchDeps;
  readonly #compared = new Map<EndpointId, Compared>();
  readonly #stop = new AbortController();
  #cancel: () => void = () => {};
  #running: Promise<void> = Promise.resolve();

  constructor(deps: ParityWatchDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#cancel = this.#deps.clock.after(LOOK_MS, () => {
      this.#running = this.look().then(() => {
        if (!this.#stop.signal.aborted) this.start();
      });
    });
  }

  async stop(): Promise<void> {
    this.#cancel();
    this.#stop.abort();
    await this.#running;
  }

  reportOf(endpointId: EndpointId): ParityReport {
    return this.#compared.get(endpointId)?.result ?? PENDING;
  }

  findingsOf(endpointId: EndpointId): Finding[] {
    const { state, cause, detail } = this.reportOf(endpointId);
    if (state !== "mismatch" || cause === null) return [];
    return [{ name: "prompt-mismatch", detail: `${cause}, ${detail}`, fix: FIXES[cause] }];
  }

  /** Compares the endpoints whose turn it is; never rejects. */
  async look(): Promise<void> {
    const { fleet, clock, meter, tokenizer, rules, model } = this.#deps;
    if (tokenizer === null) return;
    const { endpoints, nowMs } = fleet.view(clock.nowMs());
    const present = new Set(endpoints.map(({ spec }) => spec.id));
    for (const endpointId of this.#compared.keys()) {
      if (!present.has(endpointId)) this.#compared.delete(endpointId);
    }
    for (const { spec, isReady } of endpoints) {
      const isDue = (this.#compared.get(spec.id)?.againMs ?? nowMs) <= nowMs;
      if (!isReady || !isDue || this.#stop.signal.aborted) continue;
      const late = new AbortController();
      const cancel = clock.after(CHECK_MS_MAX, () => late.abort());
      const signal = AbortSignal.any([late.signal, this.#stop.signal]);
      const result = await checkParity({ endpoint: spec.id, tokenizer, rules }, model, signal);
      cancel();
      meter.count("kvatlas_prompt_parity_checks_total", { endpoint: spec.id, state: result.state });
      const waitMs = result.state === "unavailable" ? UNAVAILABLE_AGAIN_MS : AGAIN_MS;
      this.#compared.set(spec.id, { result, againMs: clock.nowMs() + waitMs });
    }
  }
}

const PENDING: ParityReport = { state: "pending", cause: null, detail: "not compared yet" };

const FIXES: Readonly<Record<MismatchCause, string>> = {
  tokenizer:
    "give prompt.tokenizerPath the tokenizer files of the model and revision that this engine serves",
  "special-tokens":
    "one side adds BOS or EOS where the other does not: compare post_processor in tokenizer.json and add_bos_token in tokenizer_config.json with the engine's files",
  template:
    "the engine has another chat template or other defaults (--chat-template, --chat-template-content-format, --default-chat-template-kwargs): put its template into chat_template.jinja, or set prompt.tokenize to render",
  tools:
    "the engine writes tools otherwise, as another chat template and --tool-parser plugins do: set prompt.tokenize to render or engine",
  version:
    "the engine reads requests by the rules of another version, or is another engine: set prompt.engine and prompt.engineVersion to its own",
};
