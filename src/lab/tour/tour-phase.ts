/** One phase: the work sent one way, shown while it runs, and its result. */
import { type Clock, sleep } from "../../core/clock.ts";
import type { LabEngine, LabEngineStats } from "../engine/engine.ts";
import { summarize } from "../workload/percentile.ts";
import type { PlannedWork } from "../workload/planned-work.ts";
import type { PhaseResult } from "./comparison.ts";
import { fetchRouterNumbers } from "./http-router-metrics.ts";
import type { Sender } from "./http-senders.ts";
import { LagMeter } from "./lag-meter.ts";
import { type RouterNumbers, routerNumbersSince } from "./router-metrics.ts";
import type { Screen } from "./screen.ts";
import { TOUR_ENGINE } from "./tour-setup.ts";
import { liveBlock, liveLine, type PhaseState, type PodLoad } from "./tour-view.ts";
import { Traffic } from "./traffic.ts";

const VIEW_MS = 1000;
/** Time for the answers that are still out when the arrivals have ended, s. */
const LATE_SECONDS_MAX = 40;

export interface PhasePlan {
  readonly title: string;
  readonly work: PlannedWork;
  readonly reusableShare: number;
  /** Length of the arrivals. */
  readonly seconds: number;
  readonly sender: Sender;
  readonly isRouted: boolean;
}

export interface PhaseDeps {
  readonly clock: Clock;
  readonly screen: Screen;
  readonly engines: readonly LabEngine[];
  readonly adminAddress: string;
  readonly signal: AbortSignal;
}

export interface PhaseOutcome extends PhaseResult {
  /** Failed requests by reason. */
  readonly failures: ReadonlyMap<string, number>;
  /** How late this process's timers were on average, ms. */
  readonly lagMs: number;
  /** Decisions without the index. */
  readonly fallbacks: number;
}

export async function runPhase(plan: PhasePlan, deps: PhaseDeps): Promise<PhaseOutcome> {
  const { clock, engines } = deps;
  const before = engines.map((engine) => engine.stats());
  const routerBefore = await fetchRouterNumbers(deps.adminAddress);
  const traffic = new Traffic(plan.work, { clock, sender: plan.sender, model: TOUR_ENGINE.model });
  const ended = new AbortController();
  const lag = new LagMeter(clock);
  const startMs = clock.nowMs();
  const limit = new AbortController();
  const limitMs = (plan.seconds + LATE_SECONDS_MAX) * 1000;
  const cancelLimit = clock.after(limitMs, () => limit.abort());
  lag.start();
  const elapsedSeconds = (): number => (clock.nowMs() - startMs) / 1000;
  const show = async (): Promise<RouterNumbers | null> => {
    const now = await fetchRouterNumbers(deps.adminAddress);
    const router =
      now === null || routerBefore === null ? now : routerNumbersSince(now, routerBefore);
    const state = phaseState({ plan, traffic, engines, before, router }, elapsedSeconds());
    deps.screen.live({ block: liveBlock(state), line: liveLine(state) });
    return router;
  };
  const shown = showUntil(ended.signal, show, clock);
  await traffic.run(AbortSignal.any([deps.signal, limit.signal]));
  const seconds = elapsedSeconds();
  cancelLimit();
  ended.abort();
  await shown;
  const router = deps.signal.aborted ? null : await show();
  const { totals } = traffic;
  return {
    done: totals.done,
    failed: totals.failed,
    failures: totals.failures,
    seconds,
    ttftMs: summarize(totals.ttftMs),
    promptTokens: totals.promptTokens,
    cachedTokens: totals.cachedTokens,
    computedTokens: podLoads(engines, before).map(({ computedTokens }) => computedTokens),
    lagMs: lag.stop(),
    fallbacks: router?.fallbacks ?? 0,
  };
}

async function showUntil(
  signal: AbortSignal,
  show: () => Promise<unknown>,
  clock: Clock,
): Promise<void> {
  while (true) {
    await sleep(clock, VIEW_MS, signal);
    if (signal.aborted) return;
    await show();
  }
}

function phaseState(
  parts: {
    readonly plan: PhasePlan;
    readonly traffic: Traffic;
    readonly engines: readonly LabEngine[];
    readonly before: readonly LabEngineStats[];
    readonly router: RouterNumbers | null;
  },
  elapsedSeconds: number,
): PhaseState {
  const { plan, traffic, engines, before, router } = parts;
  const { title, seconds, reusableShare, isRouted } = plan;
  const { ttftMs, ...totals } = traffic.totals;
  return {
    ...{ title, seconds, reusableShare, isRouted, router, elapsedSeconds },
    ...totals,
    ttftMs: summarize(ttftMs),
    pods: podLoads(engines, before),
  };
}

function podLoads(engines: readonly LabEngine[], before: readonly LabEngineStats[]): PodLoad[] {
  return engines.map((engine, index) => {
    const now = engine.stats();
    const start = before[index] ?? now;
    const promptTokens = now.promptTokens - start.promptTokens;
    return {
      requests: now.requests - start.requests,
      computedTokens: promptTokens - (now.cachedTokens - start.cachedTokens),
      running: now.running,
      waiting: now.waiting,
    };
  });
}
