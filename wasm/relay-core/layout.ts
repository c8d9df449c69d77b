/** Runs of plain events in the last scanned message, and where what they bring about lies. */

/** Runs of one message; with more of them it is not plain. */
export const RUNS_MAX: u32 = 64;
/** Blocks of one run. */
export const RUN_BLOCKS_MAX: u32 = 32_768;

export const RUN_BYTES: u32 = 32;
export const RUNS_AT = memory.data(32 * RUNS_MAX, 16);
/** Number of the first event, and how many there are. */
export const FIRST: usize = 0;
export const EVENTS: usize = 4;
/** Where hashes and token ids begin in the lists of the message, and how many hashes there are. */
export const HASHES_FROM: usize = 8;
export const BLOCKS: usize = 12;
export const TOKENS_FROM: usize = 16;

/** Key before the events of a run that have no parent, and the deployment's seed: what a call is told. */
export const ROOT_AT = memory.data(8, 8);
export const SEED_AT = memory.data(8, 8);

/** For each block handles, then keys, keys before them, rows; of removals handles, then rows. */
export const OUT_AT = memory.data(28 * RUN_BLOCKS_MAX, 16);

// @ts-ignore: decorator
@inline
export function runAt(run: u32): usize {
  return RUNS_AT + <usize>run * RUN_BYTES;
}
