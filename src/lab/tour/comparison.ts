/** Both phases side by side, and what that means. Pure. */
import type { TimesSummary } from "../workload/percentile.ts";
import { duration, percent, thousands } from "./number-words.ts";

export interface PhaseResult {
  readonly done: number;
  readonly failed: number;
  /** Until the last answer. */
  readonly seconds: number;
  readonly ttftMs: TimesSummary;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  /** Prompt tokens computed by each pod. */
  readonly computedTokens: readonly number[];
}

/** Differences within this share are called none: two runs of the same differ as much. */
const CLEAR_SHARE = 0.05;

export function comparisonTable(roundRobin: PhaseResult, kvatlas: PhaseResult): string[] {
  const row = (label: string, text: (phase: PhaseResult) => string, ratio = ""): string =>
    `  ${label.padEnd(30)}${text(roundRobin).padStart(14)}${text(kvatlas).padStart(14)}   ${ratio}`;
  const less = (value: (phase: PhaseResult) => number): string =>
    lessText(value(roundRobin), value(kvatlas));
  return [
    `  ${"the same work, sent twice".padEnd(30)}${"round robin".padStart(14)}${"kvatlas".padStart(14)}`,
    row("time to first token, mean", meanText, less(meanMs)),
    row(
      "  half of the requests within",
      ({ ttftMs }) => duration(ttftMs.p50),
      less(({ ttftMs }) => ttftMs.p50),
    ),
    row(
      "  99 % of the requests within",
      ({ ttftMs }) => duration(ttftMs.p99),
      less(({ ttftMs }) => ttftMs.p99),
    ),
    row("prompt tokens from a cache", ({ cachedTokens, promptTokens }) =>
      percent(cachedTokens, promptTokens),
    ),
    row("prompt tokens computed", (phase) => thousands(computed(phase)), less(computed)),
    row("busiest pod against the mean", (phase) => `${imbalance(phase).toFixed(2)} x`),
    row(
      "all answered after",
      ({ seconds }) => duration(seconds * 1000),
      less(({ seconds }) => seconds),
    ),
    row("requests answered", ({ done }) => thousands(done)),
    row("requests failed", ({ failed }) => thousands(failed)),
  ];
}

/** One sentence, made from the numbers alone. */
export function verdict(roundRobin: PhaseResult, kvatlas: PhaseResult): string {
  if (roundRobin.failed + kvatlas.failed > 0) {
    return "Requests failed, so these numbers do not compare the same work.";
  }
  if (meanMs(roundRobin) === 0 || meanMs(kvatlas) === 0) {
    return "Nothing was answered, so there is nothing to compare.";
  }
  const tokensSaved = 1 - computed(kvatlas) / Math.max(1, computed(roundRobin));
  const timeSaved = 1 - meanMs(kvatlas) / meanMs(roundRobin);
  const isSameWork = Math.abs(tokensSaved) <= CLEAR_SHARE;
  const work = isSameWork
    ? "the engines computed about as many prompt tokens both ways"
    : `the engines computed ${thousands(computed(kvatlas))} prompt tokens instead of ` +
      `${thousands(computed(roundRobin))} for the same answers`;
  if (timeSaved < -CLEAR_SHARE) {
    return `kvatlas was NOT better here: the first token came later on average, and ${work}.`;
  }
  if (timeSaved <= CLEAR_SHARE) {
    return `kvatlas made no clear difference to the first token here; ${work}.`;
  }
  const sooner = `${(meanMs(roundRobin) / meanMs(kvatlas)).toFixed(1)} times as soon on average`;
  if (tokensSaved <= CLEAR_SHARE) {
    return `kvatlas brought the first token ${sooner}; ${work}, so that came from spreading the load.`;
  }
  return (
    "Sending each request to where most of its prompt is already cached brought the first token " +
    `${sooner}, because ${work}.`
  );
}

function lessText(before: number, after: number): string {
  if (before <= 0 || after <= 0) return "";
  if (Math.abs(1 - after / before) < CLEAR_SHARE) return "about the same";
  return after <= before
    ? `${(before / after).toFixed(1)} times less`
    : `${(after / before).toFixed(1)} times more`;
}

function meanMs({ ttftMs }: PhaseResult): number {
  return ttftMs.mean;
}

function meanText({ ttftMs }: PhaseResult): string {
  return duration(ttftMs.mean);
}

function computed({ computedTokens }: PhaseResult): number {
  return computedTokens.reduce((sum, tokens) => sum + tokens, 0);
}

/** Most computed tokens of a pod, against the mean of all. */
function imbalance(phase: PhaseResult): number {
  const mean = computed(phase) / Math.max(1, phase.computedTokens.length);
  return mean === 0 ? 1 : Math.max(...phase.computedTokens) / mean;
}
