/** Metrics as a port. Names and labels are those of metric-catalog.ts and no others. */
import type { CounterName, GaugeName, HistogramName } from "./metric-catalog.ts";

export type Labels = Readonly<Record<string, string>>;

export interface Meter {
  count(name: CounterName, labels?: Labels, by?: number): void;
  gauge(name: GaugeName, labels: Labels, value: number): void;
  observe(name: HistogramName, labels: Labels, value: number): void;
  /** Forgets the series of a gauge, for label values that no longer exist. */
  resetGauge(name: GaugeName): void;
}

export const silentMeter: Meter = {
  count: () => {},
  gauge: () => {},
  observe: () => {},
  resetGauge: () => {},
};
