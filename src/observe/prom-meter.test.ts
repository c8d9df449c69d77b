import { describe, expect, it } from "vitest";
import { COUNTERS, GAUGES, HISTOGRAMS } from "../core/metric-catalog.ts";
import { PromMeter } from "./prom-meter.ts";

async function linesOf(meter: PromMeter): Promise<string[]> {
  return (await meter.text()).body.split("\n").filter((line) => line.startsWith("kvatlas_"));
}

describe("PromMeter", () => {
  it("exposes counters, gauges and histograms in Prometheus text", async () => {
    const meter = new PromMeter();
    meter.count("kvatlas_store_pages_total", {}, 3);
    meter.count("kvatlas_scrapes_total", { outcome: "ok" });
    meter.count("kvatlas_scrapes_total", { outcome: "ok" });
    meter.gauge("kvatlas_endpoint_ready", { endpoint: "h:1" }, 1);
    meter.observe("kvatlas_match_seconds", {}, 0.00002);
    const lines = await linesOf(meter);
    expect(lines).toContain("kvatlas_store_pages_total 3");
    expect(lines).toContain('kvatlas_scrapes_total{outcome="ok"} 2');
    expect(lines).toContain('kvatlas_endpoint_ready{endpoint="h:1"} 1');
    expect(lines).toContain('kvatlas_match_seconds_bucket{le="0.00001"} 0');
    expect(lines).toContain('kvatlas_match_seconds_bucket{le="0.000025"} 1');
    expect(lines).toContain("kvatlas_match_seconds_count 1");
  });

  it("forgets the series of a gauge that is reset", async () => {
    const meter = new PromMeter();
    meter.gauge("kvatlas_endpoint_ready", { endpoint: "h:1" }, 1);
    meter.resetGauge("kvatlas_endpoint_ready");
    expect((await linesOf(meter)).join("\n")).not.toContain("h:1");
  });

  it("declares every metric of the catalog, and those of the process", async () => {
    const { body, contentType } = await new PromMeter().text();
    for (const name of Object.keys({ ...COUNTERS, ...GAUGES, ...HISTOGRAMS })) {
      expect(body).toContain(`# TYPE ${name} `);
    }
    expect(body).toContain("process_resident_memory_bytes");
    expect(contentType).toContain("text/plain; version=0.0.4");
  });

  it("has a registry of its own", async () => {
    const [one, other] = [new PromMeter(), new PromMeter()];
    one.count("kvatlas_store_pages_total");
    expect(await linesOf(other)).toContain("kvatlas_store_pages_total 0");
  });
});
