/** The clock of the running process: the one home of Node's time functions. */
import type { Clock } from "./clock.ts";

/** One for all threads of the process: performance.now counts from the begin of each. */
const THREAD_BEGAN_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

export const nodeClock: Clock = {
  nowMs: () => THREAD_BEGAN_MS + performance.now(),
  wallMs: () => Date.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
