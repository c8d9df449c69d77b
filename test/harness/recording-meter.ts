/** A meter that a test can read. */
import type { Meter } from "../../src/core/meter.ts";
import type { CounterName, GaugeName, HistogramName } from "../../src/core/metric-catalog.ts";

export interface RecordingMeter extends Meter {
  /** Sum over the series of a counter whose labels include these. */
  total(name: CounterName, labels?: Readonly<Record<string, string>>): number;
  /** Newest value of a gauge with these labels; NaN: never set. */
  value(name: GaugeName, labels: Readonly<Record<string, string>>): number;
  /** All values of a histogram, oldest first. */
  observed(name: HistogramName): readonly number[];
}

export function recordingMeter(): RecordingMeter {
  const gauges = new Map<string, number>();
  const counts: { name: string; labels: Readonly<Record<string, string>>; by: number }[] = [];
  const observations: { name: string; value: number }[] = [];
  return {
    count: (name, labels = {}, by = 1) => {
      const series = counts.find(
        (each) => each.name === name && JSON.stringify(each.labels) === JSON.stringify(labels),
      );
      if (series === undefined) counts.push({ name, labels, by });
      else series.by += by;
    },
    gauge: (name, labels, value) => void gauges.set(name + JSON.stringify(labels), value),
    value: (name, labels) => gauges.get(name + JSON.stringify(labels)) ?? Number.NaN,
    observe: (name, _, value) => void observations.push({ name, value }),
    observed: (name) => observations.flatMap((each) => (each.name === name ? [each.value] : [])),
    resetGauge: () => {},
    total: (name, labels = {}) =>
      counts
        .filter((each) => each.name === name)
        .filter((each) =>
          Object.entries(labels).every(([key, value]) => each.labels[key] === value),
        )
        .reduce((sum, each) => sum + each.by, 0),
  };
}
