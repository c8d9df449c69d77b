/** What one scrape of an endpoint came to. */
import type { EndpointId } from "../core/ids.ts";
import type { EngineSignals } from "./signals.ts";

/**
 * refused: no connection, or it broke before the answer; timeout: no whole answer in time;
 * http: another status than 200; malformed: not Prometheus text, or a value out of its range.
 */
export type ScrapeFailure = "refused" | "timeout" | "http" | "malformed";

export type ScrapeReport =
  | {
      readonly ok: true;
      readonly endpointId: EndpointId;
      /** Monotonic ms at which the scrape was sent, so that its age is never told too low. */
      readonly atMs: number;
      readonly signals: EngineSignals;
    }
  | {
      readonly ok: false;
      readonly endpointId: EndpointId;
      readonly atMs: number;
      readonly failure: ScrapeFailure;
    };
