/** Faults that stay on until they are switched off. */
export interface FaultSwitches {
  /** Share of the messages that are dropped at random, 0 to 1. */
  readonly dropShare: number;
  /** Nothing is sent while requests are served; numbers and the replay buffer go on. */
  readonly isSilent: boolean;
  /** Every BlockRemoved of a GPU block is told twice. */
  readonly isRemovalDoubled: boolean;
  /** Every batch begins with the removal of a hash that was never stored. */
  readonly isUnknownRemoved: boolean;
  /** Every prefix hit is told as a store (kv_cache_report_mode=full), though nothing is stored. */
  readonly areHitsReported: boolean;
  /** Every batch ends with an event of a kind that no version has. */
  readonly hasUnknownEvents: boolean;
  /** Every event and every batch has one field more than any version. */
  readonly hasExtraFields: boolean;
}

export const NO_FAULTS: FaultSwitches = {
  dropShare: 0,
  isSilent: false,
  isRemovalDoubled: false,
  isUnknownRemoved: false,
  areHitsReported: false,
  hasUnknownEvents: false,
  hasExtraFields: false,
};
