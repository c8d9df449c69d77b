import { describe, expect, it } from "vitest";
import { COUNTERS, GAUGES, HISTOGRAMS } from "./metric-catalog.ts";

describe("metric catalog", () => {
  it("names metrics as Prometheus asks: prefix, base units, _total on counters alone", () => {
    for (const name of Object.keys(COUNTERS)) expect(name).toMatch(/^kvatlas_[a-z_]+_total$/);
    for (const name of Object.keys(GAUGES)) expect(name).toMatch(/^kvatlas_[a-z_]+(?<!_total)$/);
    for (const name of Object.keys(HISTOGRAMS)) expect(name).toMatch(/^kvatlas_[a-z_]+_seconds$/);
    for (const name of [...Object.keys(GAUGES), ...Object.keys(COUNTERS)]) {
      expect(name).not.toMatch(/_(ms|millis|percent|perc|kb|mb)(_|$)/);
    }
  });

  it("says what each metric means in one sentence", () => {
    for (const { help } of Object.values({ ...COUNTERS, ...GAUGES, ...HISTOGRAMS })) {
      expect(help).toMatch(/^\S.*\.$/);
    }
  });
});
