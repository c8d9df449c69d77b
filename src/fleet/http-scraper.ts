/**
 * Scrapes the engines' metrics over HTTP, each endpoint at its own slightly varying interval, so
 * that neither the engines nor this process see all scrapes at one instant.
 */
import http from "node:http";
import https from "node:https";
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import type { EndpointSpec } from "./endpoint.ts";
import { type HttpGetResult, httpGet } from "./http-get.ts";
import type { ScrapeFailure, ScrapeReport } from "./scrape-report.ts";
import { METRICS_BYTES_MAX, parseVllmMetrics } from "./vllm-metrics.ts";

/** Scrapes under way at once; others wait for one of them to end. */
const SCRAPES_MAX = 128;
/** Share by which an interval may be shorter or longer. */
const JITTER_RATIO = 0.1;

export interface HttpScraperDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly meter: Meter;
  readonly onReport: (report: ScrapeReport) => void;
}

export interface HttpScraperOptions {
  readonly scrapeMs: number;
  readonly scrapeTimeoutMs: number;
  /** Default SCRAPES_MAX. */
  readonly scrapesMax?: number;
}

interface Target {
  readonly id: EndpointId;
  /** As configured. */
  readonly metricsUrl: string;
  readonly url: URL;
  /** Ends the target's timer and its scrape under way. */
  readonly removed: AbortController;
  cancelTimer: () => void;
}

export class HttpScraper {
  readonly #deps: HttpScraperDeps;
  readonly #options: HttpScraperOptions;
  readonly #targets = new Map<EndpointId, Target>();
  /** Targets whose time has come while SCRAPES_MAX are under way, oldest first. */
  readonly #due = new Set<Target>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #agents: { readonly "http:": http.Agent; readonly "https:": https.Agent };

  constructor(deps: HttpScraperDeps, options: HttpScraperOptions) {
    this.#deps = deps;
    this.#options = options;
    // One connection an endpoint, kept until the next scrape; the engine may close it earlier.
    const agentOptions = { keepAlive: true, maxSockets: 1, maxFreeSockets: 1 };
    this.#agents = {
      "http:": new http.Agent(agentOptions),
      "https:": new https.Agent(agentOptions),
    };
  }

  /** Scrapes these endpoints from now on and no others. A first scrape comes within `scrapeMs`. */
  follow(specs: readonly EndpointSpec[]): void {
    const urls = new Map<EndpointId, string>();
    for (const { id, metricsUrl } of specs) if (metricsUrl !== null) urls.set(id, metricsUrl);
    for (const target of this.#targets.values()) {
      if (urls.get(target.id) !== target.metricsUrl) this.#remove(target);
    }
    for (const [id, metricsUrl] of urls) {
      if (this.#targets.has(id)) continue;
      const removed = new AbortController();
      const url = new URL(metricsUrl);
      const target: Target = { id, metricsUrl, url, removed, cancelTimer: () => {} };
      this.#targets.set(id, target);
      this.#arm(target, this.#deps.random.next() * this.#options.scrapeMs);
    }
  }

  async stop(): Promise<void> {
    for (const target of this.#targets.values()) this.#remove(target);
    await Promise.all(this.#underWay);
    this.#agents["http:"].destroy();
    this.#agents["https:"].destroy();
  }

  #remove(target: Target): void {
    this.#targets.delete(target.id);
    this.#due.delete(target);
    target.cancelTimer();
    target.removed.abort();
  }

  #arm(target: Target, delayMs: number): void {
    target.cancelTimer = this.#deps.clock.after(delayMs, () => {
      this.#due.add(target);
      this.#startDue();
    });
  }

  #startDue(): void {
    for (const target of this.#due) {
      if (this.#underWay.size >= (this.#options.scrapesMax ?? SCRAPES_MAX)) return;
      this.#due.delete(target);
      const scrape = this.#scrape(target).finally(() => {
        this.#underWay.delete(scrape);
        this.#startDue();
      });
      this.#underWay.add(scrape);
    }
  }

  async #scrape(target: Target): Promise<void> {
    const atMs = this.#deps.clock.nowMs();
    const result = await httpGet({
      url: target.url,
      agent: this.#agents[target.url.protocol === "https:" ? "https:" : "http:"],
      clock: this.#deps.clock,
      timeoutMs: this.#options.scrapeTimeoutMs,
      bytesMax: METRICS_BYTES_MAX,
      signal: target.removed.signal,
    });
    if (target.removed.signal.aborted) return;
    const report = this.#reportOf(target, atMs, result);
    this.#deps.meter.count("kvatlas_scrapes_total", { outcome: report.ok ? "ok" : report.failure });
    const jitter = 1 + JITTER_RATIO * (2 * this.#deps.random.next() - 1);
    this.#arm(target, this.#options.scrapeMs * jitter);
    this.#deps.onReport(report);
  }

  #reportOf({ id, url }: Target, atMs: number, result: HttpGetResult): ScrapeReport {
    const failed = (failure: ScrapeFailure, detail: string): ScrapeReport => {
      this.#deps.log.debug({ endpoint: id, url: url.href, failure, detail }, "scrape failed");
      return { ok: false, endpointId: id, atMs, failure };
    };
    if (!result.ok) {
      return failed(result.reason === "too-large" ? "malformed" : result.reason, result.detail);
    }
    const parsed = parseVllmMetrics(result.value);
    if (!parsed.ok) return failed("malformed", parsed.detail);
    return { ok: true, endpointId: id, atMs, signals: parsed.value };
  }
}
