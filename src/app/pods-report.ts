/** What is known of every endpoint and rank, as the admin server's /pods says it. Pure. */
import type { FleetView } from "../fleet/fleet.ts";
import type { Residency } from "../indexer/residency.ts";

export interface PodReport {
  readonly name: string;
  readonly endpoint: string;
  /** ready, or why it is given no requests. */
  readonly ready: string;
  /** Own requests in flight. */
  readonly requests: number;
  /** Age of the newest scrape, ms; null: none yet. */
  readonly signalAgeMs: number | null;
  readonly ranks: readonly RankReport[];
}

export interface RankReport {
  readonly rank: number;
  /** silent: no KV event was heard so far. */
  readonly state: "EXACT" | "DEGRADED" | "silent";
  readonly reason: string | null;
  readonly epoch: number | null;
  readonly seq: number | null;
  readonly blocks: number;
  readonly blockSizeTokens: number | null;
}

export function podsReport(fleet: FleetView, residency: Residency): PodReport[] {
  return fleet.endpoints.map(({ spec, readyReason, signals, load }) => ({
    name: spec.name,
    endpoint: spec.id,
    ready: readyReason,
    requests: load.requests,
    signalAgeMs: signals === null ? null : Math.round(Math.max(0, fleet.nowMs - signals.atMs)),
    ranks: Array.from({ length: spec.kvEvents?.ranks ?? 0 }, (_, rank) =>
      rankReport(residency, { endpointId: spec.id, rank }),
    ),
  }));
}

function rankReport(
  residency: Residency,
  holder: Parameters<Residency["cursorOf"]>[0],
): RankReport {
  const cursor = residency.cursorOf(holder);
  return {
    rank: holder.rank,
    state: cursor?.state ?? "silent",
    reason: cursor?.reason ?? null,
    epoch: cursor?.epoch ?? null,
    seq: cursor?.seq ?? null,
    blocks: residency.blocksOf(holder),
    blockSizeTokens: cursor?.blockSizeTokens ?? null,
  };
}
