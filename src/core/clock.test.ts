import { describe, expect, it } from "vitest";
import { type Clock, sleep } from "./clock.ts";
import { nodeClock } from "./node-clock.ts";

/** Holds the one timer that `sleep` sets. */
function heldClock(): { clock: Clock; fire: () => void; isCancelled: () => boolean } {
  let pending: (() => void) | null = null;
  let isCancelled = false;
  const clock: Clock = {
    nowMs: () => 0,
    wallMs: () => 0,
    after: (_delayMs, callback) => {
      pending = callback;
      return () => {
        isCancelled = true;
      };
    },
  };
  return { clock, fire: () => pending?.(), isCancelled: () => isCancelled };
}

describe("sleep", () => {
  it("ends when its time is over", async () => {
    const { clock, fire } = heldClock();
    const slept = sleep(clock, 10, new AbortController().signal);
    fire();
    await slept;
  });

  it("ends at once on abort and cancels its timer", async () => {
    const { clock, isCancelled } = heldClock();
    const controller = new AbortController();
    const slept = sleep(clock, 10, controller.signal);
    controller.abort();
    await slept;
    expect(isCancelled()).toBe(true);
    await sleep(clock, 10, controller.signal);
  });
});

describe("nodeClock", () => {
  it("calls back after the delay, and not after a cancel", async () => {
    const calls: string[] = [];
    const cancel = nodeClock.after(0, () => calls.push("cancelled"));
    cancel();
    const startMs = nodeClock.nowMs();
    await new Promise<void>((resolve) => nodeClock.after(5, resolve));
    // Node rounds timers to whole milliseconds.
    expect(nodeClock.nowMs() - startMs).toBeGreaterThan(3);
    expect(calls).toEqual([]);
    expect(nodeClock.wallMs()).toBeGreaterThan(Date.UTC(2024));
  });
});
