/** The fleet's endpoints as sources of KV events: one for each data-parallel rank. */
import type { EventSource } from "../events/ingest.ts";
import type { EndpointSpec } from "../fleet/endpoint.ts";

/** Rank r of an engine publishes at the port of rank 0 plus r. */
export function eventSources(specs: readonly EndpointSpec[]): EventSource[] {
  return specs.flatMap(({ id, model, kvEvents }) => {
    if (kvEvents === null) return [];
    const colon = kvEvents.address.lastIndexOf(":");
    const host = kvEvents.address.slice(0, colon);
    const port = Number(kvEvents.address.slice(colon + 1));
    return Array.from({ length: kvEvents.ranks }, (_, rank) => ({
      holder: { endpointId: id, rank },
      model,
      address: `${host}:${port + rank}`,
      topic: kvEvents.topic,
    }));
  });
}
