/**
 * Which of the reasons why a holder is DEGRADED is shown: what an engine can tell again before what it
 * cannot, and both before what is expected of it, which would hide that something is missing.
 */
import { type KeyedEvent, type LossReason, lost } from "./keyed-batch.ts";

/** Ended by an engine that tells its whole life again. */
const HEALABLE: ReadonlySet<string> = new Set([
  "gap",
  "log-truncated",
  "late-subscription",
  "store-damaged",
  "undecodable",
  "unknown-parent",
  "orphans-full",
  "unknown-handle",
  "uncounted-copies",
  "unproven-life",
]);
/** So it is with some engines, while all that they said is known. */
const EXPECTED: ReadonlySet<string> = new Set(["no-removals", "token-pairs"]);

export function isHealable(reason: string): boolean {
  return HEALABLE.has(reason);
}

export function isExpected(reason: string): boolean {
  return EXPECTED.has(reason);
}

/** Whether a reason takes the place of one that stands. */
export function isShownBefore(reason: string, standing: string): boolean {
  return rankOf(reason) >= rankOf(standing);
}

function rankOf(reason: string): number {
  if (EXPECTED.has(reason)) return 0;
  // Says why a life is known from its middle only.
  return reason === "resync" || HEALABLE.has(reason) ? 2 : 1;
}

/** What a life has lost as expected of its engine: hidden while stores wait, and said again behind that. */
export class ExpectedLosses {
  readonly #reasons = new Set<LossReason>();

  /** The events of a message, with what is said at its end of stores that wait for their parents. */
  closed(
    events: KeyedEvent[],
    { wasWaiting, isWaiting }: { readonly wasWaiting: boolean; readonly isWaiting: boolean },
  ): KeyedEvent[] {
    for (const event of events) {
      if (event.type === "lost" && isExpected(event.reason)) this.#reasons.add(event.reason);
    }
    if (isWaiting) return [...events, lost("unknown-parent")];
    return wasWaiting ? [...events, ...Array.from(this.#reasons, lost)] : events;
  }

  clear(): void {
    this.#reasons.clear();
  }
}
