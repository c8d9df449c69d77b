/** The running phase in words. Pure: numbers in, text out. */
import type { TimesSummary } from "../workload/percentile.ts";
import { bar, duration, percent, thousands } from "./number-words.ts";
import type { RouterNumbers } from "./router-metrics.ts";
import { PREFILL_TOKENS_PER_SECOND } from "./tour-setup.ts";

export interface PodLoad {
  /** Since the start of the phase. */
  readonly requests: number;
  readonly computedTokens: number;
  /** At this moment. */
  readonly running: number;
  readonly waiting: number;
}

export interface PhaseState {
  /** "1 of 2: round robin" */
  readonly title: string;
  readonly elapsedSeconds: number;
  /** Length of the arrivals. */
  readonly seconds: number;
  readonly planned: number;
  readonly done: number;
  readonly inFlight: number;
  readonly failed: number;
  readonly ttftMs: TimesSummary;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  /** Share of the work's prompt tokens that an infinite cache would hold. */
  readonly reusableShare: number;
  readonly pods: readonly PodLoad[];
  /** Gained in this phase; null when the router did not answer. */
  readonly router: RouterNumbers | null;
  /** Whether requests go through the router. */
  readonly isRouted: boolean;
}

const BAR_CHARS = 20;

export function liveBlock(state: PhaseState): string[] {
  return [
    `  ${clockText(state)}`,
    `  requests             ${requestsText(state)}`,
    `  time to first token  ${ttftText(state.ttftMs)}`,
    `  hit rate             ${hitText(state)}`,
    `  against              ${possibleText(state)}`,
    `  tokens saved         ${savedText(state.cachedTokens)}`,
    ...podLines(state.pods),
    `  index                ${indexText(state.router)}`,
  ];
}

/** The same in one line. */
export function liveLine(state: PhaseState): string {
  const { done, inFlight, failed, ttftMs, promptTokens, cachedTokens, router } = state;
  return [
    `  ${clockText(state)}`,
    `${done} done, ${inFlight} in flight, ${failed} failed`,
    `first token ${ttftMs.count === 0 ? "-" : `mean ${duration(ttftMs.mean)}, p99 ${duration(ttftMs.p99)}`}`,
    `hit rate ${percent(cachedTokens, promptTokens)}${possibleShort(state)}`,
    `${thousands(cachedTokens)} tokens saved`,
    `per pod ${state.pods.map(({ requests }) => requests).join("/")}`,
    router === null
      ? "index ?"
      : `index ${thousands(router.indexBlocks)} blocks, ${duration(router.lagSeconds * 1000)} behind`,
  ].join(" | ");
}

function clockText({ title, elapsedSeconds, seconds }: PhaseState): string {
  const elapsed = Math.round(elapsedSeconds);
  const rest = elapsed > seconds ? ", waiting for the last answers" : ` of ${seconds} s`;
  return `${title}: ${elapsed} s${rest}`;
}

function requestsText({ done, planned, inFlight, failed }: PhaseState): string {
  return `${done} of ${planned} answered, ${inFlight} in flight, ${failed} failed`;
}

function ttftText({ count, mean, p50, p99 }: TimesSummary): string {
  if (count === 0) return "-";
  return `mean ${duration(mean)}, half within ${duration(p50)}, 99 % within ${duration(p99)}`;
}

function hitText({ cachedTokens, promptTokens }: PhaseState): string {
  if (promptTokens === 0) return "no answer yet";
  return `${percent(cachedTokens, promptTokens)} of prompt tokens came from a cache`;
}

function possibleText({ router, isRouted, reusableShare }: PhaseState): string {
  const reusable = `${percent(reusableShare, 1)} reusable with endless memory`;
  if (!isRouted || router === null) return reusable;
  const predicted = percent(router.predictedTokens, router.promptTokens);
  const possible = percent(router.possibleTokens, router.promptTokens);
  return `${predicted} predicted, ${possible} held by some pod, ${reusable}`;
}

function possibleShort({ router, isRouted }: PhaseState): string {
  if (!isRouted || router === null) return "";
  return ` of ${percent(router.possibleTokens, router.promptTokens)} possible`;
}

function savedText(cachedTokens: number): string {
  const seconds = cachedTokens / PREFILL_TOKENS_PER_SECOND;
  return `${thousands(cachedTokens)} = ${seconds.toFixed(1)} GPU-seconds of prefill`;
}

function podLines(pods: readonly PodLoad[]): string[] {
  const requestsMax = Math.max(1, ...pods.map(({ requests }) => requests));
  return pods.map(({ requests, running, waiting }, index) => {
    const name = `pod ${index + 1}`.padEnd(19);
    const now = `${running} running, ${waiting} waiting`;
    return `  ${name}  ${bar(requests / requestsMax, BAR_CHARS)} ${requests} requests, ${now}`;
  });
}

function indexText(router: RouterNumbers | null): string {
  if (router === null) return "the router did not answer in time";
  const { indexBlocks, exactHolders, holders, lagSeconds } = router;
  const exact = `${exactHolders} of ${holders} pods known exactly`;
  return `${thousands(indexBlocks)} blocks, ${exact}, ${duration(lagSeconds * 1000)} behind`;
}
