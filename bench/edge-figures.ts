/** What a process under measurement tells of itself when its parent asks. */
import { monitorEventLoopDelay } from "node:perf_hooks";

const LAG_RESOLUTION_MS = 1;

export interface Figures {
  /** User and system time of all threads so far, ms. */
  readonly cpuMs: number;
  /** Resident, after a collection where one was asked for. */
  readonly residentBytes: number;
  readonly openStreams: number;
  /** How late the event loop of the main thread was since the last question, ms; 0 when not watched. */
  readonly lagMs: { readonly p50: number; readonly p99: number };
}

export function answerFigures(options: {
  readonly isLagWatched: boolean;
  readonly openStreams: () => number;
}): void {
  const lag = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS });
  if (options.isLagWatched) lag.enable();
  process.on("message", (question) => {
    if (question !== "figures" && question !== "figures after gc") return;
    if (question === "figures after gc") globalThis.gc?.();
    const { user, system } = process.cpuUsage();
    const figures: Figures = {
      cpuMs: (user + system) / 1000,
      residentBytes: process.memoryUsage.rss(),
      openStreams: options.openStreams(),
      lagMs: { p50: lateMs(lag, 50), p99: lateMs(lag, 99) },
    };
    lag.reset();
    process.send?.(figures);
  });
}

function lateMs(lag: ReturnType<typeof monitorEventLoopDelay>, percentile: number): number {
  return Math.max(0, lag.percentile(percentile) / 1e6 - LAG_RESOLUTION_MS);
}
