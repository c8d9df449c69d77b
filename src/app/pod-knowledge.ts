/** How well each endpoint is known, and what is assumed of those without KV events. */
import type { EndpointId, Holder } from "../core/ids.ts";
import type { EndpointSpec } from "../fleet/endpoint.ts";
import type { EndpointView } from "../fleet/endpoint-view.ts";
import { ExpectedEvents, type Silence } from "../fleet/expected-events.ts";
import { AssumedBlocks } from "../indexer/assumed-blocks.ts";
import type { HolderMatch } from "../indexer/block-index.ts";
import { CHUNK_TOKENS } from "../prompt/byte-chunks.ts";
import { type KnownState, knownState, NO_EVENT_SOURCE, worstState } from "../router/known-state.ts";
import type { EventSide, KnownHolders } from "./write-side.ts";

/** Tokens per block where neither the engine nor the fleet says: vLLM's default. */
const BLOCK_SIZE_DEFAULT = 16;
const NO_MATCHES: readonly HolderMatch[] = [];
/** Chunks of text assumed at one endpoint, 2 MB of text; least recently answered ones go first. */
const CHUNKS_MAX = 4096;

export interface PodKnowledgeDeps {
  readonly holders: KnownHolders;
  readonly events: Pick<EventSide, "heardMsOf">;
  /** Life of an assumed block, ms. */
  readonly assumedLifeMs: number;
}

/** The fleet as one decision needs it. */
export interface KnownFleet {
  readonly states: Pick<ReadonlyMap<EndpointId, KnownState>, "get">;
  /** Endpoints whose blocks are assumed, each with its block size. */
  readonly approximated: ReadonlyMap<EndpointId, number>;
}

export class PodKnowledge {
  readonly assumed: AssumedBlocks;
  /** Chunks of the texts that endpoints answered, for prompts whose tokens come too late. */
  readonly chunks: AssumedBlocks;
  readonly expected: ExpectedEvents = new ExpectedEvents();
  readonly #deps: PodKnowledgeDeps;

  constructor(deps: PodKnowledgeDeps) {
    this.#deps = deps;
    this.assumed = new AssumedBlocks({ lifeMs: deps.assumedLifeMs });
    this.chunks = new AssumedBlocks({ lifeMs: deps.assumedLifeMs });
  }

  /** States of all endpoints; what was assumed of one that is heard now is dropped. */
  known(endpoints: readonly EndpointView[], nowMs: number): KnownFleet {
    const approximated = new Map<EndpointId, number>();
    const states = new Map<EndpointId, KnownState>();
    for (const endpoint of endpoints) {
      const { spec } = endpoint;
      // Without an event source there is nothing to look for.
      const ranks = spec.kvEvents === null ? null : this.ranksOf(spec, nowMs);
      if (ranks !== null) states.set(spec.id, worstState(ranks));
      if (ranks === null || isApproximated(ranks)) {
        approximated.set(spec.id, this.blockSizeOf(endpoint));
      } else this.assumed.forget(spec.id);
    }
    const get = (id: EndpointId): KnownState => states.get(id) ?? NO_EVENT_SOURCE;
    return { states: { get }, approximated };
  }

  /** Drops what is noted of endpoints that are not in the fleet any more. */
  keep(endpoints: ReadonlySet<EndpointId>): void {
    this.expected.keep(endpoints);
    for (const guessed of [this.assumed, this.chunks]) {
      for (const endpointId of guessed.endpoints()) {
        if (!endpoints.has(endpointId)) guessed.forget(endpointId);
      }
    }
  }

  /** Drops what has outlived its life. */
  expire(nowMs: number): void {
    this.assumed.expire(nowMs);
    this.chunks.expire(nowMs);
  }

  /** The endpoint answered a text of these chunks. */
  chunksAnswered(endpoint: EndpointView, keys: BigUint64Array, nowMs: number): void {
    const pool = endpoint.signals?.value.gpuBlocks ?? null;
    const poolTokens = pool === null ? Number.POSITIVE_INFINITY : pool * this.blockSizeOf(endpoint);
    const gpuBlocks = Math.min(CHUNKS_MAX, Math.floor(poolTokens / CHUNK_TOKENS));
    this.chunks.assume(endpoint.spec.id, { keys, gpuBlocks, nowMs });
  }

  /** State of each rank; of an endpoint without event source the one that stands for it. */
  ranksOf(spec: EndpointSpec, nowMs: number): KnownState[] {
    if (spec.kvEvents === null) return [NO_EVENT_SOURCE];
    const isSilent = this.silenceOf(spec, nowMs) !== null;
    return holdersOf(spec).map((holder) =>
      knownState(this.#deps.holders.cursorOf(holder), { isSilent }),
    );
  }

  /** How long the endpoint has owed events; null: it owes none. */
  silenceOf(spec: EndpointSpec, nowMs: number): Silence | null {
    return spec.kvEvents === null
      ? null
      : this.expected.silence(spec.id, { heardMs: () => this.heardMsOf(spec), nowMs });
  }

  /** Newest message of any rank, monotonic ms; null: none. */
  heardMsOf(spec: EndpointSpec): number | null {
    const heard = holdersOf(spec).map((holder) => this.#deps.events.heardMsOf(holder) ?? -1);
    const newest = Math.max(-1, ...heard);
    return newest < 0 ? null : newest;
  }

  /** Tokens per block: as its events say, its metrics, the finest of the fleet, or 16. */
  blockSizeOf({ spec, signals }: EndpointView): number {
    const { holders } = this.#deps;
    return (
      holders.cursorOf({ endpointId: spec.id, rank: 0 })?.blockSizesTokens[0] ??
      signals?.value.blockSizeTokens ??
      smallest(holders.blockSizes()) ??
      BLOCK_SIZE_DEFAULT
    );
  }

  /** What the endpoint is assumed to hold of a prompt; it counts for each of its ranks. */
  assumedMatches(
    endpoint: EndpointView,
    keys: BigUint64Array,
    nowMs: number,
  ): readonly HolderMatch[] {
    return matchesOf(this.assumed, endpoint, { keys, nowMs });
  }

  /** The same by chunks of its text. */
  chunkMatches(
    endpoint: EndpointView,
    keys: BigUint64Array,
    nowMs: number,
  ): readonly HolderMatch[] {
    return matchesOf(this.chunks, endpoint, { keys, nowMs });
  }
}

function matchesOf(
  guessed: AssumedBlocks,
  { spec }: EndpointView,
  { keys, nowMs }: { readonly keys: BigUint64Array; readonly nowMs: number },
): readonly HolderMatch[] {
  const blocks = guessed.leadingBlocks(spec.id, keys, nowMs);
  if (blocks === 0) return NO_MATCHES;
  const blocksByTier = { gpu: blocks, cpu: 0, nvme: 0, shared: 0 };
  return Array.from({ length: spec.kvEvents?.ranks ?? 1 }, (_, rank) => ({
    ...{ holder: { endpointId: spec.id, rank }, gpuBlocks: blocks, blocks, blocksByTier },
  }));
}

/** One rank that is heard is better than a guess that cannot tell the ranks apart. */
function isApproximated(ranks: readonly KnownState[]): boolean {
  return ranks.every(({ state }) => state === "FALLBACK");
}

export function holdersOf({ id, kvEvents }: EndpointSpec): Holder[] {
  return Array.from({ length: kvEvents?.ranks ?? 0 }, (_, rank) => ({ endpointId: id, rank }));
}

function smallest(numbers: ReadonlySet<number>): number | null {
  return numbers.size === 0 ? null : Math.min(...numbers);
}
