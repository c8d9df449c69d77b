/** Events that were not taken as they are, and are counted: by themselves they cost no knowledge. */

/**
 * - other-group: of a group that is not indexed
 * - unknown-tag: of a kind that this version does not know
 * - unknown-parent: blocks whose parent was not seen: they wait for it, and while they do that is said
 *   with each batch
 * - hash-only: hashes and tokens that do not fit together, of blocks that are known by their hashes
 */
export type LeftOutReason = "other-group" | "unknown-tag" | "unknown-parent" | "hash-only";

export type LeftOut = ReadonlyMap<LeftOutReason, number>;

/** Shared by the steps that have none, which are most. */
export const NONE_LEFT_OUT: LeftOut = new Map();

export class LeftOutCounts {
  #counts = new Map<LeftOutReason, number>();

  count(reason: LeftOutReason): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  /** Events since the last call. */
  take(): LeftOut {
    if (this.#counts.size === 0) return NONE_LEFT_OUT;
    const counts = this.#counts;
    this.#counts = new Map();
    return counts;
  }
}
