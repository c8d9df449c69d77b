/** How late this process's timers are: whether the machine, and not the simulated GPU, is short. */
import type { Clock } from "../../core/clock.ts";

const INTERVAL_MS = 50;

export class LagMeter {
  readonly #clock: Clock;
  #cancel: () => void = () => {};
  #lateMs = 0;
  #ticks = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  start(): void {
    const dueMs = this.#clock.nowMs() + INTERVAL_MS;
    this.#cancel = this.#clock.after(INTERVAL_MS, () => {
      this.#lateMs += Math.max(0, this.#clock.nowMs() - dueMs);
      this.#ticks += 1;
      this.start();
    });
  }

  /** Mean lateness since the start, ms. */
  stop(): number {
    this.#cancel();
    return this.#lateMs / Math.max(1, this.#ticks);
  }
}
