/** In the decisions' thread: what the write path has told of its holders. */
import type { EndpointId, Holder } from "../core/ids.ts";
import type { StreamFacts } from "../events/stream-facts.ts";
import type { HolderCursor } from "../indexer/residency.ts";
import { COUNTS_PER_HOLDER, type NewsOfHolders } from "./holder-news.ts";
import type { EventSide, KnownHolders } from "./write-side.ts";

interface Known {
  cursor: HolderCursor | null;
  facts: StreamFacts | null;
  heardMs: number | null;
  blocks: number;
}

export class HolderBoard implements KnownHolders, Pick<EventSide, "factsOf" | "heardMsOf"> {
  /** By endpoint, then rank: a decision asks for every holder, and makes no names. */
  readonly #endpoints = new Map<EndpointId, Map<number, Known>>();
  readonly #slots = new Map<number, Known>();
  #blockSizes: ReadonlySet<number> = new Set();

  take({ changed, gone, counts }: NewsOfHolders): void {
    for (const { slot, holder, cursor, facts } of changed) {
      const known = this.#known(holder) ?? this.#add(holder);
      Object.assign(known, { cursor, facts });
      this.#slots.set(slot, known);
    }
    for (const holder of gone) this.#drop(holder);
    for (let at = 0; at < counts.length; at += COUNTS_PER_HOLDER) this.#count(counts, at);
    if (changed.length + gone.length > 0) this.#blockSizes = this.#sizes();
  }

  /** Nothing is known any more. */
  clear(): void {
    this.#endpoints.clear();
    this.#slots.clear();
    this.#blockSizes = new Set();
  }

  cursorOf(holder: Holder): HolderCursor | null {
    return this.#known(holder)?.cursor ?? null;
  }

  blocksOf(holder: Holder): number {
    return this.#known(holder)?.blocks ?? 0;
  }

  blockSizes(): ReadonlySet<number> {
    return this.#blockSizes;
  }

  factsOf(holder: Holder): StreamFacts | null {
    const known = this.#known(holder);
    return known === undefined || known.facts === null
      ? null
      : { ...known.facts, heardMs: known.heardMs };
  }

  heardMsOf(holder: Holder): number | null {
    return this.#known(holder)?.heardMs ?? null;
  }

  #known({ endpointId, rank }: Holder): Known | undefined {
    return this.#endpoints.get(endpointId)?.get(rank);
  }

  #add({ endpointId, rank }: Holder): Known {
    const known = { cursor: null, facts: null, heardMs: null, blocks: 0 };
    const ranks = this.#endpoints.get(endpointId) ?? new Map<number, Known>();
    this.#endpoints.set(endpointId, ranks.set(rank, known));
    return known;
  }

  #drop({ endpointId, rank }: Holder): void {
    const ranks = this.#endpoints.get(endpointId);
    const known = ranks?.get(rank);
    for (const [slot, each] of this.#slots) if (each === known) this.#slots.delete(slot);
    ranks?.delete(rank);
    if (ranks?.size === 0) this.#endpoints.delete(endpointId);
  }

  #count(counts: Float64Array, at: number): void {
    const [slot = -1, seq = 0, engineMs = 0, heardMs = Number.NaN, blocks = 0] = counts.subarray(
      at,
      at + COUNTS_PER_HOLDER,
    );
    const known = this.#slots.get(slot);
    if (known === undefined) return;
    if (known.cursor !== null) known.cursor = { ...known.cursor, seq, engineMs };
    known.heardMs = Number.isNaN(heardMs) ? null : heardMs;
    known.blocks = blocks;
  }

  #sizes(): ReadonlySet<number> {
    return new Set(
      [...this.#slots.values()].flatMap(({ cursor }) => cursor?.blockSizesTokens ?? []),
    );
  }
}
