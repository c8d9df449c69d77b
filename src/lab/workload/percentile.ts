/** Mean and percentiles of measured times. */

export interface TimesSummary {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
}

/** Nearest rank: the smallest value that at least `share` (over 0, to 1) of the values reach. */
export function percentile(sorted: readonly number[], share: number): number {
  const rank = Math.ceil(share * sorted.length);
  return sorted[Math.min(Math.max(rank, 1), sorted.length) - 1] ?? 0;
}

/** All zero without values. */
export function summarize(values: readonly number[]): TimesSummary {
  const sorted = values.toSorted((a, b) => a - b);
  const sum = sorted.reduce((total, value) => total + value, 0);
  return {
    count: sorted.length,
    mean: sum / Math.max(1, sorted.length),
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
  };
}
