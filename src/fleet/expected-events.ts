/**
 * Which endpoints owe KV events: they answered prompts that they had to store blocks of.
 *
 * Any event heard since such a request was dispatched settles what was owed. Pure: the caller brings
 * the time.
 */
import type { EndpointId } from "../core/ids.ts";

/** Time after an answer within which its events are waited for, ms. */
const SILENT_AFTER_MS = 30_000;

interface Owed {
  requests: number;
  /** Dispatch of the first of them, monotonic ms. */
  readonly dispatchedMs: number;
  /** Its answer, monotonic ms. */
  readonly answeredMs: number;
}

export interface Heard {
  /** Newest event message of any rank, monotonic ms; null: none. */
  readonly heardMs: number | null;
  readonly nowMs: number;
}

export interface Silence {
  /** Requests whose blocks should have been told. */
  readonly requests: number;
  readonly silentMs: number;
}

export class ExpectedEvents {
  readonly #owed = new Map<EndpointId, Owed>();

  /** A request that was dispatched at `dispatchedMs` is answered, and brought blocks to store. */
  answered(
    endpointId: EndpointId,
    { heardMs, nowMs, dispatchedMs }: Heard & { readonly dispatchedMs: number },
  ): void {
    if (heardMs !== null && heardMs >= dispatchedMs) return;
    const owed = this.#owed.get(endpointId);
    if (owed !== undefined) owed.requests += 1;
    else this.#owed.set(endpointId, { requests: 1, dispatchedMs, answeredMs: nowMs });
  }

  /** Null while nothing is owed, or not for long enough. */
  silence(
    endpointId: EndpointId,
    heard: { readonly heardMs: () => number | null; readonly nowMs: number },
  ): Silence | null {
    const owed = this.#owed.get(endpointId);
    if (owed === undefined) return null;
    const heardMs = heard.heardMs();
    if (heardMs !== null && heardMs >= owed.dispatchedMs) {
      this.#owed.delete(endpointId);
      return null;
    }
    const silentMs = heard.nowMs - owed.answeredMs;
    return silentMs < SILENT_AFTER_MS ? null : { requests: owed.requests, silentMs };
  }

  /** Drops the endpoints that are not in the fleet any more. */
  keep(endpoints: ReadonlySet<EndpointId>): void {
    for (const endpointId of this.#owed.keys()) {
      if (!endpoints.has(endpointId)) this.#owed.delete(endpointId);
    }
  }
}
