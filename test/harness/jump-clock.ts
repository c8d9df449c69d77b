/** Real time that a test can set ahead. */
import type { Clock } from "../../src/core/clock.ts";
import { nodeClock } from "../../src/core/node-clock.ts";

export class JumpClock implements Clock {
  #aheadMs = 0;

  nowMs(): number {
    return nodeClock.nowMs() + this.#aheadMs;
  }

  wallMs(): number {
    return nodeClock.wallMs() + this.#aheadMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    return nodeClock.after(delayMs, callback);
  }

  jump(ms: number): void {
    this.#aheadMs += ms;
  }
}
