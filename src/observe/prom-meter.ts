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

const NO_LABELS: Labels = {};

interface Counted {
  readonly labels: Labels;
  by: number;
}

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
  /** Counted since the metrics were read last: a count of prom-client costs a microsecond. */
  readonly #counts: ReadonlyMap<CounterName, Map<string, Counted>>;

  /** Metrics of the process (memory, CPU, event loop) are added under prom-client's names. */
  constructor() {
    const registers = [this.#registry];
    this.#counters = new Map(
      keysOf(COUNTERS).map((name) => [name, new Counter({ ...specOf(name, COUNTERS), registers })]),
    );
    this.#counts = new Map(keysOf(COUNTERS).map((name) => [name, new Map()]));
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

  count(name: CounterName, labels: Labels = NO_LABELS, by = 1): void {
    const key = seriesOf(labels);
    const counts = this.#counts.get(name);
    const counted = counts?.get(key);
    if (counted !== undefined) counted.by += by;
    else counts?.set(key, { labels, by });
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
    for (const [name, counts] of this.#counts) {
      for (const { labels, by } of counts.values()) this.#counters.get(name)?.inc(labels, by);
      counts.clear();
    }
    const body = await this.#registry.metrics();
    return { contentType: this.#registry.contentType, body };
  }
}

/** Unlike prom-client, this takes labels in another order for another series, which is then told with it. */
function seriesOf(labels: Labels): string {
  let key = "";
  for (const name in labels) key += `${name}\0${labels[name]}\0`;
  return key;
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
