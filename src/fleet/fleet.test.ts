import { describe, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import { type EndpointId, endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { type Meter, silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import type { EndpointSpec } from "./endpoint.ts";
import { Fleet } from "./fleet.ts";
import type { Dispatch, InflightKeys } from "./ledger.ts";
import type { ScrapeFailure, ScrapeReport } from "./scrape-report.ts";
import type { EngineSignals } from "./signals.ts";

const podA = endpointId("10.0.0.1:8000");
const podB = endpointId("10.0.0.2:8000");
const podC = endpointId("10.0.0.3:8000");

const blocks: InflightKeys = { add: () => 0, remove: () => 0 };

const signals: EngineSignals = {
  waiting: 3,
  running: 2,
  kvUsage: 0.5,
  blockSizeTokens: 16,
  gpuBlocks: null,
};

function spec(id: EndpointId, fields: Partial<EndpointSpec> = {}): EndpointSpec {
  return specOf(id, { metricsUrl: `http://${id}/metrics`, ...fields });
}

function fleetOf(...specs: EndpointSpec[]): Fleet {
  const fleet = new Fleet({ clock: nodeClock, log: silentLog, meter: silentMeter, blocks });
  fleet.apply(specs);
  return fleet;
}

function scraped(id: EndpointId, atMs = 0): ScrapeReport {
  return { ok: true, endpointId: id, atMs, signals };
}

function failed(id: EndpointId, failure: ScrapeFailure): ScrapeReport {
  return { ok: false, endpointId: id, atMs: 0, failure };
}

function reasonOf(fleet: Fleet): string | undefined {
  return fleet.view(0).endpoints[0]?.readyReason;
}

const request: Dispatch = {
  requestId: "r1",
  endpointId: podA,
  decodeEndpointId: null,
  inputTokens: 10,
  keys: new BigUint64Array(0),
  blockSizeTokens: 16,
  workSeconds: 1,
  prefixKeys: [],
  isFirstTokenShown: true,
  atMs: 0,
};

describe("Fleet", () => {
  it("is ready by configuration, before the first scrape", () => {
    const fleet = fleetOf(spec(podA), spec(podB, { isDraining: true }));
    expect(fleet.view(7)).toMatchObject({
      nowMs: 7,
      endpoints: [
        { isReady: true, readyReason: "ready", signals: null },
        { isReady: false, readyReason: "draining" },
      ],
    });
  });

  it("takes an endpoint out after two refused scrapes in a row, until one succeeds", () => {
    const fleet = fleetOf(spec(podA));
    fleet.scraped(failed(podA, "refused"));
    expect(reasonOf(fleet)).toBe("ready");
    fleet.scraped(failed(podA, "timeout"));
    expect(reasonOf(fleet)).toBe("unreachable");
    fleet.scraped(failed(podA, "http"));
    expect(reasonOf(fleet)).toBe("unreachable");
    fleet.scraped(scraped(podA));
    expect(reasonOf(fleet)).toBe("ready");
  });

  it("gives requests to endpoints that only time out where none of their role is ready", () => {
    const fleet = fleetOf(spec(podA), spec(podB), spec(podC, { role: "decode" }));
    const seen = (): unknown =>
      fleet.view(0).endpoints.map(({ isReady, readyReason }) => [readyReason, isReady]);
    const fail = (id: EndpointId, failure: ScrapeFailure): void => {
      for (let scrape = 0; scrape < 2; scrape += 1) fleet.scraped(failed(id, failure));
    };
    fail(podA, "timeout");
    expect(seen()).toEqual([
      ["silent", false],
      ["ready", true],
      ["ready", true],
    ]);
    fail(podB, "timeout");
    expect(seen()).toEqual([
      ["silent", true],
      ["silent", true],
      ["ready", true],
    ]);
    fail(podB, "refused");
    expect(seen()).toEqual([
      ["silent", true],
      ["unreachable", false],
      ["ready", true],
    ]);
    fleet.scraped(scraped(podB));
    expect(seen()).toEqual([
      ["silent", false],
      ["ready", true],
      ["ready", true],
    ]);
  });

  it("keeps an endpoint whose metrics are bad but whose server answers", () => {
    const fleet = fleetOf(spec(podA));
    for (const failure of ["malformed", "http", "refused", "http", "refused"] as const) {
      fleet.scraped(failed(podA, failure));
      expect(reasonOf(fleet)).toBe("ready");
    }
  });

  it("lets an endpoint warm up again that was unreachable", () => {
    const fleet = fleetOf(spec(podA));
    fleet.ledger.dispatched(request);
    fleet.ledger.firstToken("r1", 5);
    fleet.scraped(failed(podA, "refused"));
    fleet.scraped(scraped(podA));
    expect(fleet.ledger.load(podA).answers).toBe(1);
    fleet.scraped(failed(podA, "refused"));
    fleet.scraped(failed(podA, "refused"));
    fleet.scraped(scraped(podA));
    expect(fleet.ledger.load(podA).answers).toBe(0);
  });

  it("lets signals age when a scrape fails", () => {
    const fleet = fleetOf(spec(podA));
    fleet.scraped(scraped(podA, 5));
    fleet.scraped(failed(podA, "malformed"));
    expect(fleet.view(100).endpoints[0]?.signals).toEqual({ value: signals, atMs: 5 });
  });

  it("skips reports and loads of endpoints that are not in the fleet", () => {
    const fleet = fleetOf(spec(podA));
    fleet.scraped(scraped(podB));
    fleet.ledger.dispatched({ ...request, endpointId: podB });
    expect(fleet.view(0).endpoints).toHaveLength(1);
  });

  it("builds only what changed; loads are live", () => {
    const fleet = fleetOf(spec(podA), spec(podB));
    const first = fleet.view(1);
    expect(fleet.view(2).endpoints).toBe(first.endpoints);
    fleet.scraped(scraped(podA));
    const second = fleet.view(3);
    expect(second.endpoints[0]?.signals).not.toBeNull();
    expect(first.endpoints[0]?.signals).toBeNull();
    expect(second.endpoints[1]).toBe(first.endpoints[1]);
    fleet.ledger.dispatched(request);
    expect(first.endpoints[0]?.load.requests).toBe(1);
  });

  it("notes how much waiting work was known when signals came", () => {
    const fleet = fleetOf(spec(podA));
    fleet.ledger.dispatched(request);
    const told = `r2;${podA},0.5,1,0,0,0,0,0,0;`;
    expect(fleet.peers.receive(told, nodeClock.nowMs() + 60_000)).toBeNull();
    fleet.scraped(scraped(podA));
    expect(fleet.view(0).endpoints[0]?.pendingAtSignals).toBe(1.5);
  });

  it("takes the size of the KV pool as stated, or as metrics tell", () => {
    const fleet = fleetOf(spec(podA, { poolTokens: 4000 }), spec(podB));
    const pools = (): (number | undefined)[] =>
      fleet.view(0).endpoints.map(({ poolTokens }) => poolTokens);
    expect(pools()).toEqual([4000, 0]);
    for (const id of [podA, podB]) {
      fleet.scraped({ ok: true, endpointId: id, atMs: 0, signals: { ...signals, gpuBlocks: 10 } });
    }
    expect(pools()).toEqual([4000, 160]);
  });

  it("fades the faults of an endpoint", () => {
    const fleet = fleetOf(spec(podA));
    fleet.faulted(podA, 1000);
    fleet.faulted(podB, 1000);
    const faults = fleet.view(0).endpoints[0]?.faults;
    expect(faults?.weight(1000)).toBe(1);
    expect(faults?.weight(3000)).toBe(0.5);
    fleet.faulted(podA, 3000);
    expect(faults?.weight(3000)).toBe(1.5);
  });

  it("keeps signals and requests over a reload while the metrics URL stays", () => {
    const fleet = fleetOf(spec(podA), spec(podB));
    fleet.scraped(scraped(podA));
    fleet.scraped(scraped(podB));
    fleet.ledger.dispatched(request);
    fleet.apply([spec(podB, { metricsUrl: "http://other/metrics" }), spec(podA)]);
    expect(fleet.version).toBe(2);
    const [b, a] = fleet.view(0).endpoints;
    expect(a).toMatchObject({ spec: { id: podA }, signals: { atMs: 0 }, load: { requests: 1 } });
    expect(b).toMatchObject({ spec: { id: podB }, signals: null });
  });

  it("reports a gauge for each known value", () => {
    const gauges: string[] = [];
    const meter: Meter = {
      ...silentMeter,
      gauge: (name, labels, value) => gauges.push(`${name} ${Object.values(labels)[0]} ${value}`),
    };
    const clock = { ...nodeClock, nowMs: () => 3000 };
    const fleet = new Fleet({ clock, log: silentLog, meter, blocks });
    fleet.apply([spec(podA), spec(podB)]);
    fleet.scraped(scraped(podA, 1000));
    fleet.report(meter);
    expect(gauges).toEqual([
      "kvatlas_degraded fleet 0",
      `kvatlas_endpoint_ready ${podA} 1`,
      `kvatlas_endpoint_inflight ${podA} 0`,
      `kvatlas_endpoint_speed_ratio ${podA} 1`,
      `kvatlas_endpoint_signal_age_seconds ${podA} 2`,
      `kvatlas_endpoint_waiting ${podA} 3`,
      `kvatlas_endpoint_running ${podA} 2`,
      `kvatlas_endpoint_kv_usage_ratio ${podA} 0.5`,
      `kvatlas_endpoint_ready ${podB} 1`,
      `kvatlas_endpoint_inflight ${podB} 0`,
      `kvatlas_endpoint_speed_ratio ${podB} 1`,
    ]);
  });

  it("counts a request whose end was lost", () => {
    const counted: unknown[] = [];
    const meter: Meter = { ...silentMeter, count: (name, labels) => counted.push(name, labels) };
    const fleet = new Fleet({ clock: nodeClock, log: silentLog, meter, blocks });
    fleet.ledger.dispatched(request);
    fleet.ledger.expire(Number.MAX_SAFE_INTEGER);
    expect(counted).toEqual(["kvatlas_inflight_dropped_total", { reason: "expired" }]);
  });

  it("begins with the stated speed of an accelerator, and learns on from there", () => {
    const stated = (speed: number): Partial<EndpointSpec> => ({
      accelerator: { speed, dollarsPerHour: 0 },
    });
    const podC = endpointId("10.0.0.3:8000");
    const fleet = fleetOf(spec(podA), spec(podB, stated(2)), spec(podC, stated(4)));
    const speeds = (): number[] => fleet.view(0).endpoints.map(({ load }) => load.speed);
    expect(speeds()).toEqual([1, 2, 4]);
    // In truth the third one is no faster than the first.
    for (let number = 0; number < 600; number += 1) {
      fleet.ledger.dispatched({ ...request, endpointId: podC, atMs: 1000 * number });
      fleet.ledger.firstToken("r1", 1000 * (number + 1));
    }
    const [first = 0, second, third] = speeds();
    expect(first).toBeCloseTo(1, 1);
    expect(second).toBe(2);
    expect(third).toBe(first);

    fleet.apply([spec(podA), spec(podB), spec(podC)]);
    expect(speeds()).toEqual([1, 1, 1]);
  });
});
