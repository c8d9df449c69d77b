import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import type { Clock } from "../core/clock.ts";
import { silentLog } from "../core/log.ts";
import { type Meter, silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import type { EndpointSpec } from "./endpoint.ts";
import { HttpScraper } from "./http-scraper.ts";
import type { ScrapeReport } from "./scrape-report.ts";
import { METRICS_BYTES_MAX } from "./vllm-metrics.ts";

const SCRAPE_MS = 1000;
const TIMEOUT_MS = 300;

/** Timers that the test fires; they are told apart by their delay. */
class ManualClock implements Clock {
  readonly timers: { readonly delayMs: number; readonly fire: () => void }[] = [];
  nowMs(): number {
    return 42;
  }
  wallMs(): number {
    return nodeClock.wallMs();
  }
  after(delayMs: number, callback: () => void): () => void {
    const timer = {
      delayMs,
      fire: (): void => {
        cancel();
        callback();
      },
    };
    const cancel = (): void => {
      const index = this.timers.indexOf(timer);
      if (index >= 0) this.timers.splice(index, 1);
    };
    this.timers.push(timer);
    return cancel;
  }
  /** Fires the timers that wait for a next scrape. */
  fireScrapes(): void {
    for (const timer of this.timers.filter((one) => one.delayMs !== TIMEOUT_MS)) timer.fire();
  }
  fireTimeouts(): void {
    for (const timer of this.timers.filter((one) => one.delayMs === TIMEOUT_MS)) timer.fire();
  }
}

interface Rig {
  readonly clock: ManualClock;
  readonly scraper: HttpScraper;
  readonly reports: ScrapeReport[];
  readonly outcomes: (string | undefined)[];
}

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

function rig(scrapesMax = 8): Rig {
  const clock = new ManualClock();
  const reports: ScrapeReport[] = [];
  const outcomes: (string | undefined)[] = [];
  const meter: Meter = {
    ...silentMeter,
    count: (_name, labels) => outcomes.push(labels?.["outcome"]),
  };
  const scraper = new HttpScraper(
    {
      clock,
      random: { next: () => 0.25 },
      log: silentLog,
      meter,
      onReport: (report) => reports.push(report),
    },
    { scrapeMs: SCRAPE_MS, scrapeTimeoutMs: TIMEOUT_MS, scrapesMax },
  );
  ends.push(() => scraper.stop());
  return { clock, scraper, reports, outcomes };
}

async function serve(handler: http.RequestListener): Promise<string> {
  const server = http.createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function spec(address: string): EndpointSpec {
  return specOf(address, { metricsUrl: `http://${address}/metrics` });
}

describe("HttpScraper", () => {
  it("scrapes at spread times, again and again, on one connection", async () => {
    const ports = new Set<number | undefined>();
    const address = await serve((request, response) => {
      ports.add(request.socket.remotePort);
      response.end("vllm:num_requests_waiting 5\n");
    });
    const { clock, scraper, reports, outcomes } = rig();
    scraper.follow([spec(address)]);
    expect(clock.timers.map((timer) => timer.delayMs)).toEqual([250]);
    for (const scrapes of [1, 2, 3]) {
      clock.fireScrapes();
      await expect.poll(() => reports.length).toBe(scrapes);
      // 10 % jitter at a quarter of its range.
      expect(clock.timers.map((timer) => timer.delayMs)).toEqual([950]);
    }
    expect(reports[0]).toMatchObject({ ok: true, endpointId: address, atMs: 42 });
    expect(reports[0]?.ok && reports[0].signals.waiting).toBe(5);
    expect(outcomes).toEqual(["ok", "ok", "ok"]);
    expect(ports.size).toBe(1);
  });

  it("says why a scrape failed", async () => {
    const handlers: Record<string, http.RequestListener> = {
      http: (_, response) => response.writeHead(500).end("x"),
      malformed: (_, response) => response.end("<html>"),
      refused: (request) => request.socket.destroy(),
    };
    for (const [failure, handler] of Object.entries(handlers)) {
      const { clock, scraper, reports, outcomes } = rig();
      const address = await serve(handler);
      scraper.follow([spec(address)]);
      clock.fireScrapes();
      await expect.poll(() => reports).toHaveLength(1);
      expect(reports[0]).toEqual({ ok: false, endpointId: address, atMs: 42, failure });
      expect(outcomes).toEqual([failure]);
    }
  });

  it("calls a closed port refused", async () => {
    const address = await serve(() => {});
    await ends.pop()?.();
    const { clock, scraper, reports } = rig();
    scraper.follow([spec(address)]);
    clock.fireScrapes();
    await expect.poll(() => reports).toMatchObject([{ ok: false, failure: "refused" }]);
  });

  it.each(["before the head", "within the body"])("times out %s", async (when) => {
    let requests = 0;
    const address = await serve((_, response) => {
      requests += 1;
      if (when === "within the body") response.write("vllm:num_requests_waiting 5\n");
    });
    const { clock, scraper, reports } = rig();
    scraper.follow([spec(address)]);
    clock.fireScrapes();
    await expect.poll(() => requests).toBe(1);
    clock.fireTimeouts();
    await expect.poll(() => reports).toMatchObject([{ ok: false, failure: "timeout" }]);
  });

  it("stops reading a body over the limit", async () => {
    const address = await serve((_, response) => {
      const chunk = Buffer.alloc(1 << 20, "#");
      const more = (): void => {
        while (!response.destroyed && response.write(chunk));
      };
      response.on("drain", more);
      more();
    });
    const { clock, scraper, reports } = rig();
    scraper.follow([spec(address)]);
    clock.fireScrapes();
    await expect.poll(() => reports).toMatchObject([{ ok: false, failure: "malformed" }]);
    expect(METRICS_BYTES_MAX).toBeLessThan(1 << 23);
  });

  it("tries again when a kept connection was closed by the engine", async () => {
    let requests = 0;
    const address = await serve((request, response) => {
      requests += 1;
      if (requests === 2) request.socket.destroy();
      else response.end("up 1\n");
    });
    const { clock, scraper, reports } = rig();
    scraper.follow([spec(address)]);
    for (const scrapes of [1, 2]) {
      clock.fireScrapes();
      await expect.poll(() => reports.length).toBe(scrapes);
    }
    expect(reports.every((report) => report.ok)).toBe(true);
    expect(requests).toBe(3);
  });

  it("has at most the allowed number of scrapes under way, and none is forgotten", async () => {
    const waiting: http.ServerResponse[] = [];
    const addresses = await Promise.all(
      Array.from({ length: 5 }, () => serve((_, response) => waiting.push(response))),
    );
    const { clock, scraper, reports } = rig(2);
    scraper.follow(addresses.map(spec));
    clock.fireScrapes();
    for (const answered of [2, 4, 5]) {
      const expected = answered === 5 ? 1 : 2;
      await expect.poll(() => waiting.length).toBe(expected);
      for (const response of waiting.splice(0)) response.end("up 1\n");
      await expect.poll(() => reports.length).toBe(answered);
    }
  });

  it("follows the fleet: removed endpoints are not scraped, changed ones anew", async () => {
    const requests: (string | undefined)[] = [];
    const address = await serve((request, response) => {
      requests.push(request.url);
      response.end("up 1\n");
    });
    const { clock, scraper, reports } = rig();
    const gone = spec("127.0.0.1:1");
    scraper.follow([spec(address), gone]);
    scraper.follow([{ ...spec(address), metricsUrl: `http://${address}/other` }]);
    clock.fireScrapes();
    await expect.poll(() => reports.length).toBe(1);
    expect(requests).toEqual(["/other"]);
    scraper.follow([{ ...spec(address), metricsUrl: null }]);
    expect(clock.timers).toEqual([]);
  });

  it("ends a scrape under way at stop, without a report", async () => {
    let requests = 0;
    const address = await serve(() => {
      requests += 1;
    });
    const { clock, scraper, reports } = rig();
    scraper.follow([spec(address)]);
    clock.fireScrapes();
    await expect.poll(() => requests).toBe(1);
    await scraper.stop();
    expect(reports).toEqual([]);
    expect(clock.timers).toEqual([]);
  });
});
