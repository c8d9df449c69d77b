/** Sends planned work at its times and counts what comes back, as a client sees it. */
import { type Clock, sleep } from "../../core/clock.ts";
import { messageOf } from "../../core/errors.ts";
import type { PlannedRequest, PlannedWork } from "../workload/planned-work.ts";
import { CompletionStream } from "./completion-stream.ts";
import type { Sender } from "./http-senders.ts";

/** Different reasons of failures that are kept apart. */
const REASONS_MAX = 8;

/** Running totals of one phase. */
export interface TrafficTotals {
  readonly planned: number;
  done: number;
  inFlight: number;
  failed: number;
  /** By reason. */
  readonly failures: Map<string, number>;
  /** Time to first token of each request that got one, ms. */
  readonly ttftMs: number[];
  /** As the engines said in `usage`. */
  promptTokens: number;
  cachedTokens: number;
}

export interface TrafficDeps {
  readonly clock: Clock;
  readonly sender: Sender;
  readonly model: string;
}

export class Traffic {
  readonly totals: TrafficTotals;
  readonly #work: PlannedWork;
  readonly #deps: TrafficDeps;

  constructor(work: PlannedWork, deps: TrafficDeps) {
    this.#work = work;
    this.#deps = deps;
    this.totals = {
      planned: work.requests.length,
      done: 0,
      inFlight: 0,
      failed: 0,
      failures: new Map(),
      ttftMs: [],
      promptTokens: 0,
      cachedTokens: 0,
    };
  }

  /** Resolves when every request was answered or failed; an abort fails what is left. */
  async run(signal: AbortSignal): Promise<void> {
    const startMs = this.#deps.clock.nowMs();
    const ends: Promise<void>[] = [];
    // A request continues only an earlier one, whose end is then known.
    for (const request of this.#work.requests) {
      const previous = request.after === null ? undefined : ends[request.after.index];
      ends.push(this.#runOne(request, { startMs, previous }, signal));
    }
    await Promise.all(ends);
  }

  async #runOne(
    request: PlannedRequest,
    when: { readonly startMs: number; readonly previous: Promise<void> | undefined },
    signal: AbortSignal,
  ): Promise<void> {
    const { clock } = this.#deps;
    if (when.previous === undefined || request.after === null) {
      const dueMs = when.startMs + request.dueMs;
      await sleep(clock, Math.max(0, dueMs - clock.nowMs()), signal);
    } else {
      await when.previous;
      await sleep(clock, request.after.thinkMs, signal);
    }
    this.totals.inFlight += 1;
    try {
      if (signal.aborted) throw new Error("not answered in time");
      await this.#exchange(request, signal);
      this.totals.done += 1;
    } catch (reason) {
      this.#fail(signal.aborted ? "not answered in time" : messageOf(reason));
    } finally {
      this.totals.inFlight -= 1;
    }
  }

  async #exchange(request: PlannedRequest, signal: AbortSignal): Promise<void> {
    const { clock, sender, model } = this.#deps;
    const { totals } = this;
    const body = requestBody(request, model);
    const sentMs = clock.nowMs();
    const reply = await sender.send(body, signal);
    if (reply.status !== 200) {
      reply.body.destroy();
      throw new Error(`status ${reply.status}`);
    }
    const stream = new CompletionStream();
    reply.body.setEncoding("utf8");
    for await (const text of reply.body) {
      const hadToken = stream.hasToken;
      stream.push(String(text));
      if (stream.hasToken && !hadToken) totals.ttftMs.push(clock.nowMs() - sentMs);
    }
    if (!stream.isDone || stream.usage === null) throw new Error("the answer broke off");
    totals.promptTokens += stream.usage.promptTokens;
    totals.cachedTokens += stream.usage.cachedTokens;
  }

  #fail(reason: string): void {
    const { totals } = this;
    totals.failed += 1;
    const isKnown = totals.failures.has(reason) || totals.failures.size < REASONS_MAX;
    const key = isKnown ? reason : "other reasons";
    totals.failures.set(key, (totals.failures.get(key) ?? 0) + 1);
  }
}

function requestBody(request: PlannedRequest, model: string): Uint8Array {
  const head = JSON.stringify({
    model,
    max_tokens: request.outputTokens,
    stream: true,
    stream_options: { include_usage: true },
  });
  // The list is joined by hand: half the cost of boxing the ids for JSON.
  return Buffer.from(`${head.slice(0, -1)},"prompt":[${request.prompt.join(",")}]}`);
}
