/** The Meter port over prom-client, with the metrics of core/metric-catalog.ts and no others. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Labels, Meter } from "../core/meter.ts";
import {
  COUNTERS,
  type CounterName,
  GAUGES,
  type GaugeName,
  HISTOGRAMS,
  type HistogramName,
} from "../core/metric-catalog.ts";

/** Seconds: own work, which is microseconds when all is well. */
const WORK_BUCKETS = [
  0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
  0.25, 0.5, 1,
];
/** Seconds: what a user waits for. */
const WAIT_BUCKETS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60,
];

const BUCKETS: Readonly<Record<HistogramName, number[]>> = {
  kvatlas_decision_seconds: WORK_BUCKETS,
  kvatlas_hold_seconds: WAIT_BUCKETS,
  kvatlas_match_seconds: WORK_BUCKETS,
  kvatlas_ttft_seconds: WAIT_BUCKETS,
  kvatlas_tpot_seconds: WORK_BUCKETS,
};

/** How often it is looked how late the event loop is, ms: each look wakes an idle process up. */
const EVENT_LOOP_LOOK_MS = 50;

export interface MetricsText {
  readonly contentType: string;
  readonly body: string;
}

export class PromMeter implements Meter {
  readonly #registry = new Registry();
  readonly #counters: ReadonlyMap<CounterName, Counter>;
  readonly #gauges: ReadonlyMap<GaugeName, Gauge>;
  readonly #histograms: ReadonlyMap<HistogramName, Histogram>;

  /** Metrics of the process (memory, CPU, event loop) are added under prom-client's names. */
  constructor() {
    const registers = [this.#registry];
    this.#counters = new Map(
      keysOf(COUNTERS).map((name) => [name, new Counter({ ...specOf(name, COUNTERS), registers })]),
    );
    this.#gauges = new Map(
      keysOf(GAUGES).map((name) => [name, new Gauge({ ...specOf(name, GAUGES), registers })]),
    );
    this.#histograms = new Map(
      keysOf(HISTOGRAMS).map((name) => {
        const spec = specOf(name, HISTOGRAMS);
        return [name, new Histogram({ ...spec, buckets: BUCKETS[name], registers })];
      }),
    );
    collectDefaultMetrics({
      register: this.#registry,
      eventLoopMonitoringPrecision: EVENT_LOOP_LOOK_MS,
    });
  }

  count(name: CounterName, labels: Labels = {}, by = 1): void {
    this.#counters.get(name)?.inc(labels, by);
  }

  gauge(name: GaugeName, labels: Labels, value: number): void {
    this.#gauges.get(name)?.set(labels, value);
  }

  observe(name: HistogramName, labels: Labels, value: number): void {
    this.#histograms.get(name)?.observe(labels, value);
  }

  resetGauge(name: GaugeName): void {
    this.#gauges.get(name)?.reset();
  }

  /** All metrics in Prometheus text format 0.0.4. */
  async text(): Promise<MetricsText> {
    const body = await this.#registry.metrics();
    return { contentType: this.#registry.contentType, body };
  }
}

interface Spec {
  readonly help: string;
  readonly labels: readonly string[];
}

function specOf<Name extends string>(
  name: Name,
  table: Readonly<Record<Name, Spec>>,
): { name: Name; help: string; labelNames: string[] } {
  return { name, help: table[name].help, labelNames: [...table[name].labels] };
}

function keysOf<Name extends string>(table: Readonly<Record<Name, Spec>>): Name[] {
  return Object.keys(table) as Name[];
}
