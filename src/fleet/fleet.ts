/**
 * The fleet: which endpoints there are, whether each may be given requests, and how loaded it is.
 *
 * `view` is the read side: an immutable picture for one decision. It is called for every request,
 * so only endpoints that changed since the last call are built again.
 */
import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { EndpointSpec } from "./endpoint.ts";
import {
  type EndpointView,
  type FleetView,
  isLastResort,
  type ReadyReason,
  withLastResorts,
} from "./endpoint-view.ts";
import { Faults } from "./faults.ts";
import { type InflightKeys, Ledger } from "./ledger.ts";
import { backlogAt, PeerLoads } from "./peer-loads.ts";
import type { ScrapeReport } from "./scrape-report.ts";
import type { Aged, EngineSignals } from "./signals.ts";

/** Scrapes in a row without connection or answer after which an endpoint is silent or unreachable. */
const REFUSED_SCRAPES_MAX = 2;

export interface FleetDeps {
  readonly blocks: InflightKeys;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

interface Slot {
  readonly index: number;
  readonly spec: EndpointSpec;
  signals: Aged<EngineSignals> | null;
  pendingAtSignals: number;
  readonly faults: Faults;
  /** Refused or timed-out scrapes in a row. */
  refusedScrapes: number;
  /** Whether any of the row was refused. */
  isRefused: boolean;
}

export class Fleet {
  /** Told of each dispatch, first token and end; its loads are part of the view. */
  readonly ledger: Ledger;
  /** Told of what other routers dispatch; part of the view too. */
  readonly peers: PeerLoads = new PeerLoads();
  readonly #deps: FleetDeps;
  readonly #slots = new Map<EndpointId, Slot>();
  readonly #changed = new Set<Slot>();
  #specs: readonly EndpointSpec[] = [];
  #version = 0;
  /** Each by itself. */
  #views: readonly EndpointView[] = [];
  #endpoints: readonly EndpointView[] = [];
  #positions: ReadonlyMap<EndpointId, number> = new Map();
  /** Those that prefill: whose speed is learned. */
  #prefilling: readonly EndpointId[] = [];

  constructor(deps: FleetDeps) {
    this.#deps = deps;
    this.ledger = new Ledger({
      blocks: deps.blocks,
      peersServedSeconds: (endpointId): number => this.peers.servedSeconds(endpointId),
      onDrop: (reason): void => deps.meter.count("kvatlas_inflight_dropped_total", { reason }),
    });
  }

  specs(): readonly EndpointSpec[] {
    return this.#specs;
  }

  /** Grows by one with each `apply`. */
  get version(): number {
    return this.#version;
  }

  /**
   * Replaces the set of endpoints. What is known of an endpoint stays while its address and
   * metrics URL stay; requests in flight at a removed endpoint stay in the ledger to their end.
   */
  apply(specs: readonly EndpointSpec[]): void {
    const known = new Map(this.#slots);
    this.#slots.clear();
    this.#changed.clear();
    for (const [index, spec] of specs.entries()) {
      assert(!this.#slots.has(spec.id), "two endpoints with one address", { id: spec.id });
      const before = known.get(spec.id);
      const isSame = before !== undefined && before.spec.metricsUrl === spec.metricsUrl;
      this.#slots.set(spec.id, {
        index,
        spec,
        signals: isSame ? before.signals : null,
        pendingAtSignals: isSame ? before.pendingAtSignals : 0,
        faults: isSame ? before.faults : new Faults(),
        refusedScrapes: isSame ? before.refusedScrapes : 0,
        isRefused: isSame && before.isRefused,
      });
    }
    this.#specs = [...specs];
    this.#version += 1;
    this.#positions = new Map(specs.map(({ id }, position) => [id, position]));
    this.#prefilling = specs.filter(({ role }) => role !== "decode").map(({ id }) => id);
    const ids = new Set(this.#positions.keys());
    this.ledger.keep(ids);
    this.peers.keep(ids);
    for (const { id, accelerator } of specs) this.ledger.stateSpeed(id, accelerator?.speed ?? 1);
    this.#settle([...this.#slots.values()].map((slot) => this.#viewOf(slot)));
    this.#deps.log.info({ endpoints: specs.length, version: this.#version }, "fleet applied");
  }

  /** A report on an endpoint that is no longer in the fleet is skipped. */
  scraped(report: ScrapeReport): void {
    const slot = this.#slots.get(report.endpointId);
    if (slot === undefined) return;
    const before = readyReasonOf(slot);
    if (report.ok) {
      slot.signals = { value: report.signals, atMs: report.atMs };
      slot.pendingAtSignals = this.#pendingSeconds(slot.spec.id);
      slot.refusedScrapes = 0;
      slot.isRefused = false;
    } else if (report.failure === "refused" || report.failure === "timeout") {
      slot.refusedScrapes = Math.min(slot.refusedScrapes + 1, REFUSED_SCRAPES_MAX);
      slot.isRefused ||= report.failure === "refused";
    } else if (slot.refusedScrapes < REFUSED_SCRAPES_MAX) {
      // The engine answered, if not with metrics: the row of refusals is broken.
      slot.refusedScrapes = 0;
      slot.isRefused = false;
    }
    this.#changed.add(slot);
    const reason = readyReasonOf(slot);
    if (reason === before) return;
    if (reason === "ready" && before !== "draining") this.ledger.began(slot.spec.id);
    const fields = { endpoint: slot.spec.id, name: slot.spec.name, reason };
    if (reason === "unreachable" || reason === "silent")
      this.#deps.log.warn(fields, `endpoint ${reason}`);
    else this.#deps.log.info(fields, "endpoint reachable again");
  }

  view(nowMs: number): FleetView {
    if (this.#changed.size > 0) {
      const views = [...this.#views];
      for (const slot of this.#changed) views[slot.index] = this.#viewOf(slot);
      this.#settle(views);
      this.#changed.clear();
    }
    this.ledger.settlePrefills(nowMs);
    this.ledger.settleSpeeds(this.#prefilling);
    const { workMeanSeconds, outputMeanTokens } = this.ledger;
    return {
      ...{ nowMs, endpoints: this.#endpoints, positions: this.#positions },
      ...{ workMeanSeconds, outputMeanTokens },
    };
  }

  /** An endpoint refused a connection, or broke an answer off. */
  faulted(endpointId: EndpointId, nowMs: number): void {
    this.#slots.get(endpointId)?.faults.add(nowMs);
  }

  /** One endpoint of the view; null: it is not in the fleet. */
  endpoint(endpointId: EndpointId): EndpointView | null {
    const slot = this.#slots.get(endpointId);
    return slot === undefined ? null : (this.view(0).endpoints[slot.index] ?? null);
  }

  /** Sets the endpoint gauges; called before metrics are read. */
  report(meter: Meter): void {
    const { nowMs, endpoints } = this.view(this.#deps.clock.nowMs());
    for (const gauge of ENDPOINT_GAUGES) meter.resetGauge(gauge);
    const isDegraded = endpoints.some(isLastResort);
    meter.gauge("kvatlas_degraded", { component: "fleet" }, isDegraded ? 1 : 0);
    for (const { spec, isReady, signals, load } of endpoints) {
      const labels = { endpoint: spec.id };
      meter.gauge("kvatlas_endpoint_ready", labels, isReady ? 1 : 0);
      meter.gauge("kvatlas_endpoint_inflight", labels, load.requests);
      meter.gauge("kvatlas_endpoint_speed_ratio", labels, load.speed);
      if (signals === null) continue;
      const ageSeconds = Math.max(0, nowMs - signals.atMs) / 1000;
      meter.gauge("kvatlas_endpoint_signal_age_seconds", labels, ageSeconds);
      const { waiting, running, kvUsage } = signals.value;
      if (waiting !== null) meter.gauge("kvatlas_endpoint_waiting", labels, waiting);
      if (running !== null) meter.gauge("kvatlas_endpoint_running", labels, running);
      if (kvUsage !== null) meter.gauge("kvatlas_endpoint_kv_usage_ratio", labels, kvUsage);
    }
  }

  #settle(views: readonly EndpointView[]): void {
    const were = this.#endpoints.filter(isLastResort).length;
    this.#views = views;
    this.#endpoints = withLastResorts(views);
    const endpoints = this.#endpoints.filter(isLastResort).length;
    if (endpoints > 0 && were === 0)
      this.#deps.log.warn({ endpoints }, "only silent endpoints are left");
    if (endpoints === 0 && were > 0)
      this.#deps.log.info({}, "silent endpoints are no longer needed");
  }

  /** Waiting work at an endpoint as far as routers know, seconds. */
  #pendingSeconds(endpointId: EndpointId): number {
    const load = this.ledger.load(endpointId);
    const nowMs = this.#deps.clock.nowMs();
    const { peerSeconds } = backlogAt(load, this.peers.at(endpointId), nowMs);
    return load.pendingSeconds + peerSeconds;
  }

  #viewOf(slot: Slot): EndpointView {
    const { spec, signals, pendingAtSignals, faults } = slot;
    const readyReason = readyReasonOf(slot);
    const { gpuBlocks, blockSizeTokens } = signals?.value ?? {};
    return {
      spec,
      isReady: readyReason === "ready",
      readyReason,
      signals,
      pendingAtSignals,
      poolTokens: spec.poolTokens ?? (gpuBlocks ?? 0) * (blockSizeTokens ?? 0),
      load: this.ledger.load(spec.id),
      peers: this.peers.at(spec.id),
      faults,
    };
  }
}

const ENDPOINT_GAUGES = [
  "kvatlas_endpoint_ready",
  "kvatlas_endpoint_inflight",
  "kvatlas_endpoint_speed_ratio",
  "kvatlas_endpoint_waiting",
  "kvatlas_endpoint_running",
  "kvatlas_endpoint_kv_usage_ratio",
  "kvatlas_endpoint_signal_age_seconds",
] as const;

function readyReasonOf({ spec, refusedScrapes, isRefused }: Slot): ReadyReason {
  if (spec.isDraining) return "draining";
  if (refusedScrapes < REFUSED_SCRAPES_MAX) return "ready";
  return isRefused ? "unreachable" : "silent";
}
