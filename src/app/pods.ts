/** Knowledge of the pods put together: states, answers, audit and findings. */
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import { Audit } from "../fleet/audit.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { EvictionWatch } from "../indexer/eviction-watch.ts";
import type { Residency } from "../indexer/residency.ts";
import { AnswerBook } from "./answer-book.ts";
import { PodKnowledge } from "./pod-knowledge.ts";
import { PodWatch, type WatchedEvents } from "./pod-watch.ts";
import { type PodReport, podsReport } from "./pods-report.ts";

export interface PodsDeps {
  readonly fleet: Fleet;
  readonly ingest: WatchedEvents;
  readonly residency: Residency;
  readonly evictions: EvictionWatch;
  /** Life of an assumed block, ms. */
  readonly assumedLifeMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export interface Pods {
  readonly knowledge: PodKnowledge;
  readonly answers: AnswerBook;
  readonly watch: PodWatch;
  readonly report: () => PodReport[];
}

/** Nothing runs yet: `watch` is to be started and stopped. */
export function createPods(deps: PodsDeps): Pods {
  const { fleet, ingest, residency, evictions, assumedLifeMs, clock, meter } = deps;
  const knowledge = new PodKnowledge({ residency, events: ingest, assumedLifeMs });
  const audit = new Audit({
    onOutcome: (endpoint, outcome): void =>
      meter.count("kvatlas_audit_samples_total", { endpoint, outcome }),
  });
  const answers = new AnswerBook({ audit, evictions, knowledge, fleet });
  const watch = new PodWatch({ ...deps, events: ingest, knowledge, audit });
  return {
    knowledge,
    answers,
    watch,
    report: () => podsReport(fleet.view(clock.nowMs()), { residency, knowledge, audit, watch }),
  };
}
