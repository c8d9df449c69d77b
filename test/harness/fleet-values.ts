/** Endpoints and fleets as values, for tests that want most of them as they usually are. */
import { endpointId } from "../../src/core/ids.ts";
import type { EndpointSpec } from "../../src/fleet/endpoint.ts";
import { type EndpointLoad, IDLE_LOAD } from "../../src/fleet/endpoint-load.ts";
import type { EndpointView, FleetView } from "../../src/fleet/endpoint-view.ts";
import { Faults } from "../../src/fleet/faults.ts";

/** An endpoint without events and metrics. */
export function specOf(address: string, fields: Partial<EndpointSpec> = {}): EndpointSpec {
  return {
    id: endpointId(address),
    name: address,
    pool: "default",
    model: "m",
    role: "both",
    poolTokens: null,
    kvEvents: null,
    metricsUrl: null,
    isDraining: false,
    accelerator: null,
    ...fields,
  };
}

type ViewFields = Omit<Partial<EndpointView>, "spec" | "load"> & {
  readonly spec?: Partial<EndpointSpec>;
  readonly load?: Partial<EndpointLoad>;
};

/** A ready endpoint of which nothing is known. */
export function viewOf(address: string, { spec, load, ...rest }: ViewFields = {}): EndpointView {
  return {
    spec: specOf(address, spec),
    isReady: true,
    readyReason: "ready",
    signals: null,
    pendingAtSignals: 0,
    poolTokens: 0,
    load: { ...IDLE_LOAD, ...load },
    peers: [],
    faults: new Faults(),
    ...rest,
  };
}

export function fleetViewOf(nowMs: number, endpoints: readonly EndpointView[]): FleetView {
  return {
    ...{ nowMs, endpoints, workMeanSeconds: 0.2, outputMeanTokens: 256 },
    positions: new Map(endpoints.map(({ spec }, position) => [spec.id, position])),
  };
}
