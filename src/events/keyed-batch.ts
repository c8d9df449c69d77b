/**
 * KV events after their tokens became our own keys: what is logged, and what the index is fed with.
 *
 * Token ids are gone at this point: they never enter NATS or LMDB.
 */
import type { Holder } from "../core/ids.ts";
import type { BlockSpan } from "../indexer/block-span.ts";
import type { Tier } from "../tiers/tier.ts";

export interface KeyedStored {
  readonly type: "stored";
  readonly tier: Tier;
  /** Engine handles and our keys, position by position. */
  readonly handles: BigUint64Array;
  readonly keys: BigUint64Array;
  /** Keys before them, 0 for a block that follows the one before it here. They are not logged. */
  readonly parents?: BigUint64Array;
  /** Rows of the relay's handle map, which the residency takes over. They are not logged. */
  readonly rows?: Uint32Array;
  /** Where these lists lie, if they are parts of larger ones: those are only made when asked for. */
  readonly span?: BlockSpan;
  /** 0 when the blocks were placed by their handles alone. */
  readonly blockSizeTokens: number;
}

export interface KeyedRemoved {
  readonly type: "removed";
  readonly tier: Tier;
  readonly handles: BigUint64Array;
  /** As of stored ones. */
  readonly rows?: Uint32Array;
}

/**
 * Keys that a handle claims after a removed one has claimed them: nothing is routed on them any more. Where
 * both handles have copies, whoever keeps these finds out by itself.
 */
export interface KeyedAmbiguous {
  readonly type: "ambiguous";
  readonly keys: BigUint64Array;
}

/** A group whose blocks make no prefix: nothing of it is indexed. Told once in each life. */
export interface KeyedIgnoredGroup {
  readonly type: "ignored-group";
  readonly group: number;
}

/**
 * Copies are counted apart in this lane: a medium below the GPU, or "#" and the number of a full group where
 * there are several. Told once in each life; see copy-lanes.ts. IDENTITIES_TOLD and HINTS_TOLD name no lane.
 */
export interface KeyedLane {
  readonly type: "lane";
  readonly name: string;
}

export interface KeyedCleared {
  readonly type: "cleared";
}

/**
 * Why something an engine said did not reach the index:
 * - undecodable: a message that could not be decoded
 * - skipped-event: an event of a known message that could not be used
 * - unknown-parent: blocks whose parent was not seen wait for it: said with each batch while they do
 * - orphans-full: such blocks beyond what is held
 * - lower-tiers: all blocks were cleared, and what lower tiers still hold is not said
 * - unknown-handle: blocks moved between tiers that were never seen
 * - unknown-tier: a medium that maps to no tier
 * - length-mismatch: hashes and tokens that do not fit together
 * - token-pairs: blocks placed by the first tokens of pairs: a match may be one block too long
 * - no-removals: a connector's store that no removal will follow; its blocks are believed for a while
 * - hints-full: such blocks beyond what is believed
 * - several-groups: blocks of a group whose kind is not told, or in other sizes than the full group before
 * - uncounted-copies: an earlier relay counted copies by medium or group, and only their sums are known; or
 *   it may have told of what waits here
 * - handles-full: the handle map is at its limit
 * - oversized: a batch that does not fit into one log message
 * - unproven-life: the numbers go on after a time without listening, and no replay shows that the
 *   engine is in the same life
 * - resync: all that was known is given up, because it had drifted from what the engine delivers
 */
export const LOSS_REASONS = [
  "undecodable",
  "skipped-event",
  "unknown-parent",
  "orphans-full",
  "lower-tiers",
  "unknown-handle",
  "unknown-tier",
  "length-mismatch",
  "token-pairs",
  "no-removals",
  "hints-full",
  "several-groups",
  "uncounted-copies",
  "handles-full",
  "oversized",
  "unproven-life",
  "resync",
] as const;
export type LossReason = (typeof LOSS_REASONS)[number];

/** Something the engine said is missing here: the holder is DEGRADED from now on. */
export interface KeyedLost {
  readonly type: "lost";
  readonly reason: LossReason;
}

/** The engine has said more than what is here, and is asked for it: not EXACT, until a batch goes on without. */
export interface KeyedCatchingUp {
  readonly type: "catching-up";
  /** The batch is no message of the engine: it says this of the one with its number, -1: of a new life. */
  readonly isNote: boolean;
}

/** The first event of a batch that is no message of the engine: what its relay says behind the one before. */
export interface KeyedAside {
  readonly type: "aside";
}

export type KeyedEvent =
  | KeyedStored
  | KeyedRemoved
  | KeyedAmbiguous
  | KeyedIgnoredGroup
  | KeyedLane
  | KeyedCleared
  | KeyedLost
  | KeyedCatchingUp
  | KeyedAside;

export interface KeyedBatch {
  readonly holder: Holder;
  /** Base model of the keys' namespace. */
  readonly model: string;
  /** Life of the engine, counted by the relay from 1: older ones are fenced off. */
  readonly epoch: number;
  /**
   * The engine's own sequence number. A batch whose first event is "aside" is what the relay said by
   * itself behind that message, at a later time: the ends of hints.
   */
  readonly seq: number;
  /** Unix milliseconds at the engine; 0 when unknown. */
  readonly engineMs: number;
  readonly events: readonly KeyedEvent[];
}

/** Where keyed batches go: straight to the index, or to the fleet's log. */
export interface KeyedSink {
  /** False when the batch was refused; the gap it leaves shows in the sequence. */
  accept(batch: KeyedBatch): boolean;
}

/** Whether a batch tells of no message, but of the place behind that with its number. */
export function isNote({ events }: KeyedBatch): boolean {
  const [first] = events;
  return first?.type === "aside" || (first?.type === "catching-up" && first.isNote);
}

export function lost(reason: LossReason): KeyedLost {
  return { type: "lost", reason };
}

export function hasLost(events: readonly KeyedEvent[], reason: LossReason): boolean {
  return events.some((event) => event.type === "lost" && event.reason === reason);
}
