/** Measures rows of a bench: repeats a piece of work until its time is stable enough to report. */
import { nodeClock } from "../src/core/node-clock.ts";

type Unit = "ns/block" | "us" | "ms" | "s" | "bytes" | "blocks/s" | "requests/s" | "count";

export interface BenchRow {
  readonly name: string;
  readonly unit: Unit;
  /** Median over the samples, or the only value. */
  readonly p50: number;
  readonly p99?: number;
  /** Row that this one is compared with, and own p50 / its p50. */
  readonly reference?: string;
  readonly ratio?: number;
}

export interface BenchCase {
  readonly name: string;
  readonly unit: "ns/block" | "us";
  /** Work done by one call, for "ns/block". */
  readonly blocks: number;
  /** Done once before the row is measured; `isQuick`: as little as shows that it works. */
  readonly start?: (isQuick: boolean) => void;
  /** Done before each sample, and not measured. */
  readonly prepare?: () => void;
  /** Calls that are timed together, where one is too short for a clock; 1 by default. */
  readonly calls?: number;
  /** A promise is waited for, and counts. */
  readonly run: () => void | Promise<void>;
  /** Ends what `run` has started, when the row is measured. */
  readonly stop?: () => Promise<void>;
  readonly reference?: string;
}

/** A row that is one value, found out by its own means. */
export interface ValueCase {
  readonly name: string;
  readonly unit: Exclude<Unit, "ns/block">;
  /** `isQuick`: as little as shows that it works. */
  readonly value: (isQuick: boolean) => Promise<number | Percentiles>;
  readonly reference?: string;
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

export interface BenchBudget {
  readonly warmupMs: number;
  readonly sampleMs: number;
  readonly samplesMax: number;
}

export const FULL: BenchBudget = { warmupMs: 200, sampleMs: 1500, samplesMax: 20_000 };
/** Runs everything once: shows that the bench still works, measures nothing. */
export const QUICK: BenchBudget = { warmupMs: 0, sampleMs: 1, samplesMax: 2 };

export async function rowOf(each: BenchCase | ValueCase, budget: BenchBudget): Promise<BenchRow> {
  if ("run" in each) {
    each.start?.(budget === QUICK);
    const row = await measure(each, budget);
    await each.stop?.();
    return row;
  }
  const value = await each.value(budget === QUICK);
  const figures = typeof value === "number" ? { p50: value } : value;
  return { name: each.name, unit: each.unit, ...figures };
}

async function measure(
  { name, unit, blocks, calls = 1, prepare, run }: BenchCase,
  budget: BenchBudget,
): Promise<BenchRow> {
  const warmupEnd = nodeClock.nowMs() + budget.warmupMs;
  do {
    prepare?.();
    await run();
  } while (nodeClock.nowMs() < warmupEnd);
  const samples: number[] = [];
  const end = nodeClock.nowMs() + budget.sampleMs;
  while (samples.length < budget.samplesMax && nodeClock.nowMs() < end) {
    prepare?.();
    const startMs = nodeClock.nowMs();
    for (let call = 0; call < calls; call += 1) {
      const running = run();
      // What is not a promise must not pay for a turn of the queue.
      if (running instanceof Promise) await running;
    }
    samples.push((nodeClock.nowMs() - startMs) / calls);
  }
  const perMs = unit === "us" ? 1000 : 1_000_000 / blocks;
  const { p50, p99 } = percentiles(samples);
  return { name, unit, p50: p50 * perMs, p99: p99 * perMs };
}

export function percentiles(samples: number[]): Percentiles {
  samples.sort((a, b) => a - b);
  const at = (share: number): number =>
    samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}

/** Adds the ratio against each row's reference; all rows are of one run on one machine. */
export function withRatios(
  rows: readonly BenchRow[],
  cases: readonly (BenchCase | ValueCase)[],
): readonly BenchRow[] {
  const p50Of = new Map(rows.map(({ name, p50 }) => [name, p50]));
  return rows.map((row) => {
    const reference = referenceOf(cases.find(({ name }) => name === row.name));
    const p50 = reference === undefined ? undefined : p50Of.get(reference);
    return reference === undefined || p50 === undefined
      ? row
      : { ...row, reference, ratio: row.p50 / p50 };
  });
}

export function referenceOf(each: BenchCase | ValueCase | undefined): string | undefined {
  return each?.reference;
}
