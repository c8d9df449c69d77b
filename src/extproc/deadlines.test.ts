import fc from "fast-check";
import { expect, it } from "vitest";
import type { Clock } from "../core/clock.ts";
import { Deadlines } from "./deadlines.ts";

/** A clock whose timers run when it is moved. */
class MovedClock implements Clock {
  #nowMs = 0;
  #timers: { readonly atMs: number; readonly callback: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }

  move(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const [next] = this.#timers
        .filter(({ atMs }) => atMs <= endMs)
        .sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((each) => each !== next);
      this.#nowMs = next.atMs;
      next.callback();
    }
    this.#nowMs = endMs;
  }
}

it("calls back each deadline at its time, unless it was cancelled", () => {
  const step = fc.record({ waitMs: fc.nat(60), isCancelled: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(100), (steps, cancelAfterMs) => {
      const clock = new MovedClock();
      const deadlines = new Deadlines(clock, 100);
      const called: [number, number][] = [];
      const expected: [number, number][] = [];
      for (const [n, { waitMs, isCancelled }] of steps.entries()) {
        clock.move(waitMs);
        const cancel = deadlines.add(() => called.push([n, clock.nowMs()]));
        if (!isCancelled) expected.push([n, clock.nowMs() + 100]);
        else clock.after(Math.min(99, cancelAfterMs), cancel);
      }
      clock.move(1000);
      expect(called).toEqual(expected);
    }),
  );
});
