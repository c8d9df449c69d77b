/** The fleet as its endpoints file says: followed, scraped, subscribed to, and judged. */
import { endpointDefaults, parseEndpoints } from "../config/endpoints.ts";
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import type { EndpointSpec } from "../fleet/endpoint.ts";
import { type EndpointsParse, FileEndpoints } from "../fleet/file-endpoints.ts";
import { Fleet } from "../fleet/fleet.ts";
import { HttpScraper } from "../fleet/http-scraper.ts";
import { InflightBlocks } from "../indexer/inflight-blocks.ts";
import type { ReadyCheck } from "../observe/http-admin.ts";
import type { ToldFleet } from "./edge-messages.ts";
import { eventSources } from "./event-sources.ts";
import type { EventSide } from "./write-side.ts";

/** Interval in which requests whose end was lost leave the ledger, ms. */
const EXPIRE_MS = 60_000;

export interface FollowedFleetDeps {
  readonly events: Pick<EventSide, "reconcile">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly meter: Meter;
}

export class FollowedFleet {
  readonly fleet: Fleet;
  readonly inflight: InflightBlocks = new InflightBlocks();
  readonly #clock: Clock;
  readonly #scraper: HttpScraper;
  readonly #file: FileEndpoints;
  #cancelExpiry: () => void = () => {};

  constructor(config: Config, deps: FollowedFleetDeps) {
    const { pool, model } = config;
    const defaults = endpointDefaults(config);
    const file = config.fleet.endpointsFile;
    this.#clock = deps.clock;
    this.fleet = new Fleet({ ...deps, blocks: this.inflight });
    const onReport: ConstructorParameters<typeof HttpScraper>[0]["onReport"] = (report): void =>
      this.fleet.scraped(report);
    this.#scraper = new HttpScraper({ ...deps, onReport }, config.fleet);
    const parse = (text: string): EndpointsParse => parseEndpoints({ file, text }, defaults);
    const onSpecs = (specs: readonly EndpointSpec[]): void => {
      const inPool = specs.filter((spec) => spec.pool === pool);
      const own = inPool.filter((spec) => spec.model === model);
      if (own.length < inPool.length) {
        // Prompts are keyed for the pool's model: there they would never be found again.
        const names = inPool.filter((spec) => spec.model !== model).map(({ name }) => name);
        deps.log.warn({ endpoints: names, model }, "endpoints of another model are left out");
      }
      this.fleet.apply(own);
      deps.meter.resetGauge("kvatlas_index_lag_seconds");
      this.#scraper.follow(own);
      deps.events.reconcile(eventSources(own));
    };
    this.#file = new FileEndpoints({ ...deps, parse, onSpecs }, file);
  }

  /** Throws KvError when the endpoints file is not accepted. */
  async start(): Promise<void> {
    await this.#file.start();
    this.#expire();
  }

  async stop(): Promise<void> {
    this.#cancelExpiry();
    await this.#file.stop();
    await this.#scraper.stop();
  }

  /** The ready endpoints, those with the fewest own requests first. */
  readyByLoad(): EndpointId[] {
    const ready = this.fleet.view(this.#clock.nowMs()).endpoints.filter(({ isReady }) => isReady);
    return ready.sort((a, b) => a.load.requests - b.load.requests).map(({ spec }) => spec.id);
  }

  /** For threads that serve. */
  told(): ToldFleet {
    const ready = this.readyByLoad();
    const whole = ready.filter((id) => this.fleet.endpoint(id)?.spec.role === "both");
    return { ready, whole };
  }

  readyChecks(): ReadyCheck[] {
    const { endpoints } = this.fleet.view(this.#clock.nowMs());
    const all = endpoints.length;
    const ready = endpoints.filter(({ isReady }) => isReady).length;
    const seen = endpoints.filter(
      ({ signals, isReady, spec }) => signals !== null || !isReady || spec.metricsUrl === null,
    ).length;
    return [
      { name: "fleet", isOk: ready > 0, detail: `${ready} of ${all} endpoints are ready` },
      { name: "scrape", isOk: seen === all, detail: `${seen} of ${all} endpoints were looked at` },
    ];
  }

  #expire(): void {
    this.fleet.ledger.expire(this.#clock.nowMs());
    this.#cancelExpiry = this.#clock.after(EXPIRE_MS, () => this.#expire());
  }
}
