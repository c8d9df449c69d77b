/**
 * Time as a port, so that the same code runs in real and in simulated time.
 *
 * Durations and ages use `nowMs`, which never goes back; `wallMs` is for display and for
 * comparison with timestamps of other machines.
 */

export interface Clock {
  /** Monotonic milliseconds since an arbitrary start. */
  nowMs(): number;
  /** Unix time in milliseconds; may jump. */
  wallMs(): number;
  /** Calls back once after `delayMs` (>= 0). Returns a function that cancels. */
  after(delayMs: number, callback: () => void): () => void;
}

/** Resolves after `delayMs`, or at once when the signal aborts; never rejects. */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      cancel();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.after(delayMs, done);
    signal.addEventListener("abort", done, { once: true });
  });
}
