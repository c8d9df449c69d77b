/**
 * Requests that wait here while every endpoint is far behind, to be decided late and better.
 *
 * A request waits at most a multiple of its own work, so that short and well-cached ones go first, and
 * never longer than a fixed time. What the room has no place for is decided at once: nothing is lost
 * here, and refused only what the configuration names. Pure state: the caller brings the time, and asks again.
 */
import type { FlowConfig } from "./config.ts";

/** What stands before a request. */
interface Queues {
  /** Mean time that the queues of its candidates take, seconds. */
  readonly queueMeanSeconds: number;
  /** The shortest of them, seconds. */
  readonly queueLeastSeconds: number;
}

export interface HoldQuestion extends Queues {
  readonly requestId: string;
  /** Bytes that wait with it. */
  readonly bytes: number;
  /** Its own work at the endpoint where it would go now, seconds. */
  readonly workSeconds: number;
  /** Monotonic ms. */
  readonly nowMs: number;
}

/**
 * - held: it waits; ask again
 * - free: the endpoints are not far behind
 * - waited: it has waited long enough
 * - full: there is no place for it
 */
export type HoldAnswer = "held" | "free" | "waited" | "full";

/** Share of `flow.queueSeconds` that even the shortest queue has when all endpoints are far behind. */
const LEAST_QUEUE_SHARE = 0.25;

interface Held {
  readonly sinceMs: number;
  readonly bytes: number;
}

export class HoldingRoom {
  readonly #config: FlowConfig;
  readonly #held = new Map<string, Held>();
  #bytes = 0;

  constructor(config: FlowConfig) {
    this.#config = config;
  }

  get requests(): number {
    return this.#held.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Time that a request has been held for, ms; 0 when it is not. */
  heldMs(requestId: string, nowMs: number): number {
    const held = this.#held.get(requestId);
    return held === undefined ? 0 : Math.max(0, nowMs - held.sinceMs);
  }

  /** Whether the request is to wait. Any answer but "held" takes it out of the room. */
  ask(question: HoldQuestion): HoldAnswer {
    const answer = this.#answer(question);
    if (answer !== "held") this.leave(question.requestId);
    else if (!this.#held.has(question.requestId)) {
      this.#held.set(question.requestId, { sinceMs: question.nowMs, bytes: question.bytes });
      this.#bytes += question.bytes;
    }
    return answer;
  }

  /** Whether a request of that objective is to be refused rather than to wait. */
  isShed(objective: string | null, queues: Queues): boolean {
    const { shedObjectives } = this.#config;
    return objective !== null && shedObjectives.includes(objective) && this.#areAllBehind(queues);
  }

  /** It was decided, or given up. */
  leave(requestId: string): void {
    const held = this.#held.get(requestId);
    if (held === undefined) return;
    this.#held.delete(requestId);
    this.#bytes -= held.bytes;
  }

  #answer(question: HoldQuestion): HoldAnswer {
    const { requestId, bytes, workSeconds, nowMs } = question;
    const { workFactor, waitMsMax, requestsMax, bytesMax } = this.#config;
    if (!this.#areAllBehind(question)) return "free";
    const patienceMs = Math.min(waitMsMax, 1000 * workFactor * workSeconds);
    if (this.heldMs(requestId, nowMs) >= patienceMs) return "waited";
    if (this.#held.has(requestId)) return "held";
    const isFull = this.#held.size >= requestsMax || this.#bytes + bytes > bytesMax;
    return isFull ? "full" : "held";
  }

  /** A mean alone may be that of one endpoint far behind and others that idle. */
  #areAllBehind({ queueMeanSeconds, queueLeastSeconds }: Queues): boolean {
    const { isOn, queueSeconds } = this.#config;
    const isLeastBehind = queueLeastSeconds > LEAST_QUEUE_SHARE * queueSeconds;
    return isOn && queueMeanSeconds > queueSeconds && isLeastBehind;
  }
}
