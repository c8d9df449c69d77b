/** Where a request decodes, in fleets whose endpoints prefill or decode. Pure. */
import type { EndpointId } from "../core/ids.ts";
import type { EndpointView, FleetView } from "../fleet/endpoint-view.ts";
import { peerWeight } from "../fleet/peer-loads.ts";

/** What a decoding request weighs beside its context, tokens. */
const REQUEST_TOKENS = 500;
/** What a refused connection or broken answer of just now weighs, tokens. */
const FAULT_TOKENS = 100_000;

/**
 * The ready decode endpoint with the least context, from dispatch to end, and no faults of late: where a request that is given
 * to a prefill endpoint goes on. Null: none is ready.
 */
export function decodeEndpoint(
  { endpoints, nowMs }: FleetView,
  isAllowed: (endpointId: EndpointId) => boolean,
): EndpointId | null {
  let lightest: EndpointId | null = null;
  let weightMin = Number.POSITIVE_INFINITY;
  for (const endpoint of endpoints) {
    if (endpoint.spec.role !== "decode" || !endpoint.isReady) continue;
    if (!isAllowed(endpoint.spec.id)) continue;
    const weight = decodeWeight(endpoint, nowMs);
    if (weight >= weightMin) continue;
    weightMin = weight;
    lightest = endpoint.spec.id;
  }
  return lightest;
}

function decodeWeight({ load, peers, faults }: EndpointView, nowMs: number): number {
  const own = load.pairedTokens + REQUEST_TOKENS * load.pairedRequests;
  return peers.reduce(
    (sum, peer) =>
      sum + peerWeight(peer, nowMs) * (peer.pairedTokens + REQUEST_TOKENS * peer.pairedRequests),
    own + FAULT_TOKENS * faults.weight(nowMs),
  );
}
