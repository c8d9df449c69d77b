/** How well it is known what an endpoint holds: part of every decision. Pure. */
import type { HolderCursor } from "../indexer/residency.ts";

/**
 * Why an endpoint is approximated from this router's own decisions:
 * - no-event-source: no KV events are configured for it
 * - not-heard: none was heard from it so far
 * - events-silent: it was heard, and no longer is although it serves
 */
export type FallbackReason = "no-event-source" | "not-heard" | "events-silent";

/**
 * - EXACT: all that its engine said is known
 * - DEGRADED: something is missing; `reason` says what
 * - FALLBACK: no events; its blocks are assumed from answered requests
 */
export interface KnownState {
  readonly state: "EXACT" | "DEGRADED" | "FALLBACK";
  readonly reason: string | null;
}

export const NOT_HEARD: KnownState = fallback("not-heard");
export const NO_EVENT_SOURCE: KnownState = fallback("no-event-source");
const EVENTS_SILENT: KnownState = fallback("events-silent");

/** State of one rank that has an event source. */
export function knownState(
  cursor: HolderCursor | null,
  options: { readonly isSilent: boolean },
): KnownState {
  if (cursor === null) return NOT_HEARD;
  return options.isSilent ? EVENTS_SILENT : cursor;
}

const ORDER = ["EXACT", "DEGRADED", "FALLBACK"] as const;

/** State of an endpoint: that of its worst rank, of equals the first. */
export function worstState(ranks: readonly KnownState[]): KnownState {
  const [first = NO_EVENT_SOURCE, ...rest] = ranks;
  const { state, reason } = rest.reduce(
    (worst, each) => (ORDER.indexOf(each.state) > ORDER.indexOf(worst.state) ? each : worst),
    first,
  );
  return { state, reason };
}

/** "EXACT", "DEGRADED(reason)" or "FALLBACK(reason)". */
export function stateText({ state, reason }: KnownState): string {
  return reason === null ? state : `${state}(${reason})`;
}

function fallback(reason: FallbackReason): KnownState {
  return { state: "FALLBACK", reason };
}
