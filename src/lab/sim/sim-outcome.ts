/** What happened to each request of a simulation, and the sums that policies are compared by. */
import { summarize } from "../workload/percentile.ts";
import type { PodHost } from "./pod-host.ts";
import type { SimRequest } from "./sim-request.ts";

export interface SimSummary {
  readonly requests: number;
  readonly lost: number;
  /** Time to first token of the answer that was finished, seconds. */
  readonly ttftMeanSeconds: number;
  readonly ttftP50Seconds: number;
  readonly ttftP99Seconds: number;
  /** Share of the prompt tokens that were in a cache. */
  readonly hitRate: number;
  /** Work of the busiest pod over the mean, of pods of one role and speed; the worst of them. */
  readonly maxOverMeanLoad: number;
  /** Share of the requests whose first token came within the objective. */
  readonly goodput: number;
  readonly heldRequests: number;
  readonly refused: number;
  readonly brokenOff: number;
  readonly preemptions: number;
  /** Simulated time from the first arrival to the last end. */
  readonly seconds: number;
}

const NEVER = -1;

export class SimOutcome {
  /** Seconds by request; NEVER without first token or end. */
  readonly ttftSeconds: Float64Array;
  readonly #atSeconds: Float64Array;
  readonly #inputTokens: readonly number[];
  readonly #cachedTokens: Float64Array;
  readonly #isFinished: Uint8Array;
  readonly #isHeld: Uint8Array;
  refused = 0;
  #brokenOff = 0;
  #preemptions = 0;
  #maxOverMeanLoad = 1;
  #endSeconds = 0;

  constructor(requests: readonly SimRequest[]) {
    this.ttftSeconds = new Float64Array(requests.length).fill(NEVER);
    this.#atSeconds = Float64Array.from(requests, ({ atSeconds }) => atSeconds);
    this.#inputTokens = requests.map(({ inputTokens }) => inputTokens);
    this.#cachedTokens = new Float64Array(requests.length);
    this.#isFinished = new Uint8Array(requests.length);
    this.#isHeld = new Uint8Array(requests.length);
  }

  held(id: number): void {
    this.#isHeld[id] = 1;
  }

  firstToken(id: number, nowSeconds: number, cachedTokens: number): void {
    this.ttftSeconds[id] = nowSeconds - (this.#atSeconds[id] ?? 0);
    this.#cachedTokens[id] = cachedTokens;
  }

  broken(id: number): void {
    this.#brokenOff += 1;
    this.ttftSeconds[id] = NEVER;
  }

  finished(id: number): void {
    this.#isFinished[id] = 1;
  }

  close(hosts: readonly PodHost[], nowSeconds: number): void {
    this.#endSeconds = nowSeconds;
    this.#preemptions = hosts.reduce((sum, { pod }) => sum + pod.preemptions, 0);
    const kinds = Map.groupBy(hosts, ({ role, pod }) => `${role} ${pod.shape.speed}`);
    for (const alike of kinds.values()) {
      const loads = alike.map(({ pod }) => pod.workSeconds);
      const mean = loads.reduce((sum, load) => sum + load, 0) / loads.length;
      if (mean > 0) {
        this.#maxOverMeanLoad = Math.max(this.#maxOverMeanLoad, Math.max(...loads) / mean);
      }
    }
  }

  /** `sloSeconds`: the objective for the time to first token. */
  summary(sloSeconds: number): SimSummary {
    const finished = this.#inputTokens
      .map((_, id) => id)
      .filter((id) => this.#isFinished[id] === 1);
    const times = finished.map((id) => this.ttftSeconds[id] ?? 0);
    const { mean, p50, p99 } = summarize(times);
    const sum = (values: ArrayLike<number>): number =>
      finished.reduce((total, id) => total + (values[id] ?? 0), 0);
    const requests = this.#inputTokens.length;
    return {
      requests,
      lost: requests - finished.length,
      ttftMeanSeconds: mean,
      ttftP50Seconds: p50,
      ttftP99Seconds: p99,
      hitRate: sum(this.#cachedTokens) / Math.max(1, sum(this.#inputTokens)),
      maxOverMeanLoad: this.#maxOverMeanLoad,
      goodput: times.filter((seconds) => seconds <= sloSeconds).length / Math.max(1, requests),
      heldRequests: this.#isHeld.reduce((held, isHeld) => held + isHeld, 0),
      refused: this.refused,
      brokenOff: this.#brokenOff,
      preemptions: this.#preemptions,
      seconds: this.#endSeconds - (this.#atSeconds[0] ?? 0),
    };
  }
}
