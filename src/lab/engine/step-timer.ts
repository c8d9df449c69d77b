/**
 * Waits for the ends of steps so that rounding of timers does not add up: ends are computed from
 * one another, and a step that is due within a millisecond runs in the next turn.
 */
import type { Clock } from "../../core/clock.ts";

/** Beyond this delay of the process, lost time is not caught up. */
const BACKLOG_MS_MAX = 1000;
/** Timers cannot wait for less. */
const TIMER_MS_MIN = 1;

export interface StepTimerDeps {
  readonly clock: Clock;
  readonly nextTurn: (callback: () => void) => void;
}

export class StepTimer {
  readonly #timeScale: number;
  readonly #deps: StepTimerDeps;
  #endMs = 0;
  #cancel: (() => void) | null = null;

  constructor(timeScale: number, deps: StepTimerDeps) {
    this.#timeScale = timeScale;
    this.#deps = deps;
  }

  /** The next step begins at this moment, not at the end of the one before. */
  restart(): void {
    this.#endMs = this.#deps.clock.nowMs();
  }

  /** Calls back when `seconds`, scaled, have passed since the end of the step before. */
  after(seconds: number, callback: () => void): void {
    if (this.#timeScale === 0) {
      this.#deps.nextTurn(callback);
      return;
    }
    const nowMs = this.#deps.clock.nowMs();
    this.#endMs = Math.max(this.#endMs, nowMs - BACKLOG_MS_MAX);
    this.#endMs += seconds * 1000 * this.#timeScale;
    const delayMs = this.#endMs - nowMs;
    if (delayMs < TIMER_MS_MIN) this.#deps.nextTurn(callback);
    else this.#cancel = this.#deps.clock.after(delayMs, callback);
  }

  cancel(): void {
    this.#cancel?.();
  }
}
