/**
 * Looks at every endpoint once a second: findings appear and go, drifted holders are resynchronised,
 * and what has outlived its life is dropped. Says so in log and metrics.
 */
import type { Clock } from "../core/clock.ts";
import type { EndpointId, Holder } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Audit } from "../fleet/audit.ts";
import type { EndpointView, FleetView } from "../fleet/endpoint-view.ts";
import { type Finding, findingsOf, type RankFacts } from "../fleet/findings.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { ParityWatch } from "./parity-watch.ts";
import { holdersOf, type PodKnowledge } from "./pod-knowledge.ts";
import type { EventSide, KnownHolders } from "./write-side.ts";

const LOOK_MS = 1000;

export interface PodWatchDeps {
  readonly fleet: Fleet;
  readonly events: Omit<EventSide, "reconcile">;
  readonly holders: KnownHolders;
  readonly knowledge: PodKnowledge;
  readonly audit: Audit;
  readonly parity: ParityWatch;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class PodWatch {
  readonly #deps: PodWatchDeps;
  readonly #findings = new Map<EndpointId, readonly Finding[]>();
  #cancel: () => void = () => {};

  constructor(deps: PodWatchDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#cancel = this.#deps.clock.after(LOOK_MS, () => {
      this.look();
      this.start();
    });
  }

  stop(): Promise<void> {
    this.#cancel();
    return Promise.resolve();
  }

  /** As of the last look. */
  findingsOf(endpointId: EndpointId): readonly Finding[] {
    return this.#findings.get(endpointId) ?? [];
  }

  look(): void {
    const { knowledge, audit } = this.#deps;
    const { endpoints, nowMs } = this.#view();
    const present = new Set(endpoints.map(({ spec }) => spec.id));
    knowledge.keep(present);
    knowledge.expire(nowMs);
    knowledge.known(endpoints, nowMs);
    audit.keep(present);
    for (const endpointId of this.#findings.keys()) {
      if (!present.has(endpointId)) this.#tell(endpointId, []);
    }
    for (const endpoint of endpoints) {
      this.#tell(endpoint.spec.id, this.#find(endpoint, nowMs));
    }
    const specs = new Map(endpoints.map(({ spec }) => [spec.id, spec]));
    audit.judge(nowMs, (endpointId) => {
      const spec = specs.get(endpointId);
      return spec !== undefined && this.#resync(endpointId, holdersOf(spec));
    });
  }

  /** Sets the gauges of states, findings and audit; called before metrics are read. */
  report(): void {
    const { knowledge, audit, parity, meter } = this.#deps;
    const { endpoints, nowMs } = this.#view();
    for (const gauge of POD_GAUGES) meter.resetGauge(gauge);
    for (const { spec } of endpoints) {
      const endpoint = spec.id;
      for (const [rank, { state, reason }] of knowledge.ranksOf(spec, nowMs).entries()) {
        const labels = { endpoint, rank: String(rank), state, reason: reason ?? "" };
        meter.gauge("kvatlas_holder_state", labels, 1);
      }
      for (const { name } of this.findingsOf(endpoint)) {
        meter.gauge("kvatlas_finding", { endpoint, finding: name }, 1);
      }
      const { state, overRatio, underRatio } = audit.report(endpoint);
      meter.gauge("kvatlas_audit_state", { endpoint, state }, 1);
      meter.gauge("kvatlas_audit_drift_ratio", { endpoint, kind: "over" }, overRatio);
      meter.gauge("kvatlas_audit_drift_ratio", { endpoint, kind: "under" }, underRatio);
      meter.gauge("kvatlas_prompt_parity", { endpoint, state: parity.reportOf(endpoint).state }, 1);
      const assumed = knowledge.assumed.blocksOf(endpoint);
      if (assumed > 0) meter.gauge("kvatlas_assumed_blocks", { endpoint }, assumed);
      const chunks = knowledge.chunks.blocksOf(endpoint);
      if (chunks > 0) meter.gauge("kvatlas_assumed_chunks", { endpoint }, chunks);
    }
  }

  #view(): FleetView {
    const { fleet, clock } = this.#deps;
    return fleet.view(clock.nowMs());
  }

  #find({ spec, signals, readyReason }: EndpointView, nowMs: number): Finding[] {
    const { knowledge, parity } = this.#deps;
    const ofEvents = findingsOf({
      spec,
      isReachable: readyReason === "ready" || readyReason === "draining",
      scrapedBlockSizeTokens: signals?.value.blockSizeTokens ?? null,
      silence: knowledge.silenceOf(spec, nowMs),
      ranks: holdersOf(spec).flatMap((holder) => this.#rankFacts(holder, nowMs) ?? []),
    });
    return [...ofEvents, ...parity.findingsOf(spec.id)];
  }

  #rankFacts(holder: Holder, nowMs: number): RankFacts | null {
    const { events, holders } = this.#deps;
    const facts = events.factsOf(holder);
    if (facts === null) return null;
    const { undecodable } = facts;
    return {
      rank: holder.rank,
      address: facts.address,
      followedMs: nowMs - facts.sinceMs,
      handshakes: facts.handshakes,
      topic: facts.topic,
      undecodable:
        undecodable === null ? null : { ...undecodable, ageMs: nowMs - undecodable.atMs },
      otherRank: facts.otherRank,
      blockSizesTokens: holders.cursorOf(holder)?.blockSizesTokens ?? [],
    };
  }

  #tell(endpointId: EndpointId, findings: readonly Finding[]): void {
    const { log } = this.#deps;
    const before = this.findingsOf(endpointId);
    for (const { name, detail, fix } of findings) {
      if (before.some((each) => each.name === name)) continue;
      log.warn({ endpoint: endpointId, finding: name, detail, fix }, "finding");
    }
    for (const { name } of before) {
      if (findings.some((each) => each.name === name)) continue;
      log.info({ endpoint: endpointId, finding: name }, "finding is gone");
    }
    if (findings.length === 0) this.#findings.delete(endpointId);
    else this.#findings.set(endpointId, findings);
  }

  /** False where nobody here can: the engines' sockets are a relay's. */
  #resync(endpointId: EndpointId, holders: readonly Holder[]): boolean {
    const { events, log, meter } = this.#deps;
    const resynced = holders.filter((holder) => events.resync(holder));
    if (resynced.length === 0) return false;
    meter.count("kvatlas_audit_resyncs_total", { endpoint: endpointId });
    log.warn(
      { endpoint: endpointId, ranks: resynced.length },
      "predictions exceed what the engine delivers: holders are resynchronised",
    );
    return true;
  }
}

const POD_GAUGES = [
  "kvatlas_holder_state",
  "kvatlas_finding",
  "kvatlas_audit_state",
  "kvatlas_prompt_parity",
  "kvatlas_audit_drift_ratio",
  "kvatlas_assumed_blocks",
  "kvatlas_assumed_chunks",
] as const;
