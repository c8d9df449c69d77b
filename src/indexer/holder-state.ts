/** What is known of a holder beside its blocks: how well, and where its events stand. */

/** Sizes of one holder's blocks; an engine has one, its groups and connectors may have others. */
export const BLOCK_SIZES_MAX = 4;

/**
 * - EXACT: seen from the first event of the engine's life, without a gap
 * - DEGRADED: something was missed; `reason` says what
 */
export interface HolderState {
  readonly state: "EXACT" | "DEGRADED";
  readonly reason: string | null;
}

/** Where a holder's events stand; kept in the same transaction as its blocks. */
export interface HolderCursor extends HolderState {
  /** Life of the engine as the relay counts them, from 1. */
  readonly epoch: number;
  /** Sequence number of the last applied batch; -1 when the engine has said nothing yet. */
  readonly seq: number;
  /** Engine's time of that batch, Unix ms; 0 when unknown. Tells its lives apart. */
  readonly engineMs: number;
  /** Sizes of its blocks, tokens, each once and as they came: a prompt is looked up in each. */
  readonly blockSizesTokens: readonly number[];
  /** Model and pool that the blocks were keyed for: another model means other keys. */
  readonly model: string;
  /** Groups of a hybrid model that are not indexed: their removals mean nothing here. */
  readonly ignoredGroups: readonly number[];
  /** Lanes in which its copies are counted apart, each once; absent: none. */
  readonly lanes?: readonly string[];
}

/** Where the consumer of the event log stands. */
export interface LogCursor {
  /** Creation time of the stream: a recreated stream starts anew. */
  readonly stream: string;
  readonly seq: number;
}
