/**
 * Deadlines that all are the same time away: a queue with one timer, which costs a request less than a
 * timer of its own that is nearly always cancelled.
 */
import type { Clock } from "../core/clock.ts";

interface Deadline {
  readonly atMs: number;
  /** Null: cancelled. */
  callback: (() => void) | null;
}

export class Deadlines {
  readonly #clock: Clock;
  readonly #delayMs: number;
  /** In the order of their time; as many as there are streams, and those cancelled of one delay. */
  #queue: Deadline[] = [];
  #isTimed = false;

  constructor(clock: Clock, delayMs: number) {
    this.#clock = clock;
    this.#delayMs = delayMs;
  }

  /** Calls back once after the delay. Returns a function that cancels. */
  add(callback: () => void): () => void {
    const deadline: Deadline = { atMs: this.#clock.nowMs() + this.#delayMs, callback };
    this.#queue.push(deadline);
    if (!this.#isTimed) this.#wait(this.#delayMs);
    return (): void => {
      deadline.callback = null;
    };
  }

  #wait(delayMs: number): void {
    this.#isTimed = true;
    this.#clock.after(delayMs, () => this.#run());
  }

  #run(): void {
    const nowMs = this.#clock.nowMs();
    const ahead = this.#queue.findIndex(({ atMs, callback }) => callback !== null && atMs > nowMs);
    const due = ahead === -1 ? this.#queue : this.#queue.slice(0, ahead);
    this.#queue = ahead === -1 ? [] : this.#queue.slice(ahead);
    this.#isTimed = false;
    for (const { callback } of due) callback?.();
    const [next] = this.#queue;
    if (next !== undefined && !this.#isTimed) this.#wait(Math.max(0, next.atMs - nowMs));
  }
}
