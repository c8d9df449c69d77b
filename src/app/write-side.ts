/**
 * The border between the write path and the decisions, as the decisions see it.
 *
 * Nothing here is awaited on the way of a request: what is asked is at hand. The index is as the
 * writer left it, the rest a tick old where the write path has a thread of its own.
 */
import type { Holder } from "../core/ids.ts";
import type { EventSource } from "../events/ingest.ts";
import type { StreamFacts } from "../events/stream-facts.ts";
import type { IndexReader } from "../indexer/block-index.ts";
import type { HolderCursor } from "../indexer/residency.ts";

/** What is known of each holder. */
export interface KnownHolders {
  cursorOf(holder: Holder): HolderCursor | null;
  /** Distinct handles that a holder has in any tier. */
  blocksOf(holder: Holder): number;
  /** Sizes of the fleet's blocks, tokens: a prompt is keyed once for each. */
  blockSizes(): ReadonlySet<number>;
}

/** The engines' side of the write path. */
export interface EventSide {
  /** Follows these sources from now on, and no others. */
  reconcile(sources: readonly EventSource[]): void;
  /** What was seen on a holder's socket; null: it has none here. */
  factsOf(holder: Holder): StreamFacts | null;
  /** Newest message of a holder, monotonic ms; null: none. */
  heardMsOf(holder: Holder): number | null;
  /** Gives up what is known of a holder, and learns it anew. False: it has no socket here. */
  resync(holder: Holder): boolean;
}

/** For people. */
export interface WriteDetail {
  /** Where the index is kept. */
  readonly store: string;
  /** How the events come, and whether that is degraded. */
  readonly events: string;
}

export interface WriteSide {
  readonly index: IndexReader;
  readonly holders: KnownHolders;
  readonly events: EventSide;
  detail(): WriteDetail;
  /** Brings counters and gauges up to date; called before metrics are read. */
  report(): Promise<void>;
  /** Writes what is left to the store. */
  stop(): Promise<void>;
}
