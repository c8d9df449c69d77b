/** Keys of a prompt's blocks, AssemblyScript: what block-keys/chain.ts does, in memory of its own. */
import { chain as chainTo, TOKENS_MAX } from "./block-keys/chain";

export const TOKENS_AT = memory.data(4 * TOKENS_MAX, 16);
/** Of a prompt, and of others beside it while a request is looked at. */
const KEYS_MAX = 131072;
export const KEYS_AT = memory.data(8 * KEYS_MAX, 16);

/** Keys of the first `blocks` blocks at TOKENS_AT, as keys `at` and on. `seed` is the deployment's. */
export function chain(parent: u64, blocks: u32, blockTokens: u32, seed: u64, at: u32): void {
  chainTo(parent, TOKENS_AT, blocks, blockTokens, seed, KEYS_AT + (<usize>at << 3));
}
