/** What is known of every endpoint and rank, as the admin server's /pods says it. Pure. */
import type { Holder } from "../core/ids.ts";
import type { Audit, AuditReport } from "../fleet/audit.ts";
import type { FleetView } from "../fleet/endpoint-view.ts";
import type { Finding } from "../fleet/findings.ts";
import { type KnownState, worstState } from "../router/known-state.ts";
import type { ParityReport, ParityWatch } from "./parity-watch.ts";
import type { PodKnowledge } from "./pod-knowledge.ts";
import type { PodWatch } from "./pod-watch.ts";
import type { KnownHolders } from "./write-side.ts";

export interface PodReport {
  readonly name: string;
  readonly endpoint: string;
  /** What of a request it does: both, prefill or decode. */
  readonly role: string;
  /** ready, or why it is given no requests. */
  readonly ready: string;
  /** Own requests in flight. */
  readonly requests: number;
  /** Age of the newest scrape, ms; null: none yet. */
  readonly signalAgeMs: number | null;
  /** Of the worst rank. */
  readonly state: KnownState["state"];
  readonly reason: string | null;
  /** Blocks assumed from answered requests; 0 unless in FALLBACK. */
  readonly assumedBlocks: number;
  readonly audit: AuditReport;
  /** Whether prompts become the same token ids there. */
  readonly parity: ParityReport;
  readonly findings: readonly Finding[];
  /** An endpoint without event source has one that stands for it. */
  readonly ranks: readonly RankReport[];
}

export interface RankReport {
  readonly rank: number;
  readonly state: KnownState["state"];
  readonly reason: string | null;
  readonly epoch: number | null;
  readonly seq: number | null;
  readonly blocks: number;
  readonly blockSizeTokens: number | null;
}

export interface PodsReportDeps {
  readonly holders: KnownHolders;
  readonly knowledge: PodKnowledge;
  readonly audit: Audit;
  readonly watch: PodWatch;
  readonly parity: ParityWatch;
}

export function podsReport({ nowMs, endpoints }: FleetView, deps: PodsReportDeps): PodReport[] {
  const { knowledge, holders, audit, watch, parity } = deps;
  return endpoints.map(({ spec, readyReason, signals, load }) => {
    const ranks = knowledge.ranksOf(spec, nowMs);
    return {
      name: spec.name,
      endpoint: spec.id,
      role: spec.role,
      ready: readyReason,
      requests: load.requests,
      signalAgeMs: signals === null ? null : Math.round(Math.max(0, nowMs - signals.atMs)),
      ...worstState(ranks),
      assumedBlocks: knowledge.assumed.blocksOf(spec.id),
      audit: audit.report(spec.id),
      parity: parity.reportOf(spec.id),
      findings: watch.findingsOf(spec.id),
      ranks: ranks.map((known, rank) => rankReport(holders, { endpointId: spec.id, rank }, known)),
    };
  });
}

function rankReport(
  holders: KnownHolders,
  holder: Holder,
  { state, reason }: KnownState,
): RankReport {
  const cursor = holders.cursorOf(holder);
  return {
    rank: holder.rank,
    state,
    reason,
    epoch: cursor?.epoch ?? null,
    seq: cursor?.seq ?? null,
    blocks: holders.blocksOf(holder),
    blockSizeTokens: cursor?.blockSizesTokens[0] ?? null,
  };
}
