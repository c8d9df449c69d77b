/** The fleet's endpoints as sources of KV events: one for each data-parallel rank. */
import type { EventSource } from "../events/ingest.ts";
import type { EndpointSpec } from "../fleet/endpoint.ts";

/**
 * Rank r of an engine publishes, and replays, at the port of rank 0 plus r; one that is polled tells of
 * all at one URL.
 */
export function eventSources(specs: readonly EndpointSpec[]): EventSource[] {
  return specs.flatMap(({ id, model, kvEvents }) => {
    if (kvEvents === null) return [];
    const { engine, address, replay, ranks, topic } = kvEvents;
    return Array.from({ length: ranks }, (_, rank) => ({
      holder: { endpointId: id, rank },
      model,
      engine,
      address: engine === "trtllm" ? address : withPortPlus(address, rank),
      replayAddress: replay === null ? null : withPortPlus(replay, rank),
      topic,
    }));
  });
}

function withPortPlus(address: string, rank: number): string {
  if (rank === 0) return address;
  const colon = address.lastIndexOf(":");
  return `${address.slice(0, colon)}:${Number(address.slice(colon + 1)) + rank}`;
}
