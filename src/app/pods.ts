/** Knowledge of the pods put together: states, answers, audit and findings. */
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import { Audit } from "../fleet/audit.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { EvictionBoard } from "../indexer/eviction-board.ts";
import { AnswerBook } from "./answer-book.ts";
import type { ParityWatch } from "./parity-watch.ts";
import { PodKnowledge } from "./pod-knowledge.ts";
import { PodWatch } from "./pod-watch.ts";
import { type PodReport, podsReport } from "./pods-report.ts";
import type { EventSide, KnownHolders } from "./write-side.ts";

export interface PodsDeps {
  readonly fleet: Fleet;
  readonly events: Omit<EventSide, "reconcile">;
  readonly holders: KnownHolders;
  readonly evictions: EvictionBoard;
  readonly parity: ParityWatch;
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
  const { fleet, holders, evictions, parity, clock, meter } = deps;
  const knowledge = new PodKnowledge(deps);
  const audit = new Audit({
    onOutcome: (endpoint, outcome): void =>
      meter.count("kvatlas_audit_samples_total", { endpoint, outcome }),
  });
  const answers = new AnswerBook({ audit, evictions, knowledge, fleet });
  const watch = new PodWatch({ ...deps, knowledge, audit });
  return {
    knowledge,
    answers,
    watch,
    report: () =>
      podsReport(fleet.view(clock.nowMs()), { holders, knowledge, audit, watch, parity }),
  };
}
