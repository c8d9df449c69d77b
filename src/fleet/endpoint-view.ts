/** What a decision sees of the fleet. */
import type { EndpointId } from "../core/ids.ts";
import type { EndpointSpec } from "./endpoint.ts";
import type { EndpointLoad } from "./endpoint-load.ts";
import type { Faults } from "./faults.ts";
import type { PeerLoad } from "./peer-loads.ts";
import type { Aged, EngineSignals } from "./signals.ts";

/**
 * - draining: by configuration
 * - unreachable: scrapes in a row without an answer, refused ones among them
 * - silent: the same, but all of them timed out; it may only be busy
 */
export type ReadyReason = "ready" | "draining" | "unreachable" | "silent";

export interface EndpointView {
  readonly spec: EndpointSpec;
  /** Whether it may be given requests. */
  readonly isReady: boolean;
  readonly readyReason: ReadyReason;
  /** Null: never scraped with success. */
  readonly signals: Aged<EngineSignals> | null;
  /** Waiting work that routers knew of when the signals came, seconds. */
  readonly pendingAtSignals: number;
  /** Tokens of the GPU's KV pool; 0: not known. */
  readonly poolTokens: number;
  /** This router's own requests there, live. */
  readonly load: EndpointLoad;
  /** Other routers' requests there, live. */
  readonly peers: readonly PeerLoad[];
  /** Refusals and failures of late, live. */
  readonly faults: Faults;
}

export interface FleetView {
  /** Monotonic ms. */
  readonly nowMs: number;
  /** In the order of the endpoints file. */
  readonly endpoints: readonly EndpointView[];
  /** Place of each endpoint in `endpoints`. */
  readonly positions: ReadonlyMap<EndpointId, number>;
  /** Moving averages over this router's own requests: work, seconds, and tokens of an answer. */
  readonly workMeanSeconds: number;
  readonly outputMeanTokens: number;
}

/**
 * Silent endpoints are ready where none of their role is: an overloaded fleet, or a network that lets
 * no scrape through, is no reason to refuse every request.
 */
export function withLastResorts(views: readonly EndpointView[]): readonly EndpointView[] {
  const served = new Set(views.filter(({ isReady }) => isReady).map(({ spec }) => spec.role));
  return views.map((view) => {
    const isNeeded = view.readyReason === "silent" && !served.has(view.spec.role);
    return isNeeded ? { ...view, isReady: true } : view;
  });
}

export function isLastResort({ isReady, readyReason }: EndpointView): boolean {
  return isReady && readyReason === "silent";
}
