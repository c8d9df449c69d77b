/** What both processes of the soak know of its prompts. */

/** Tokens per block. */
export const BLOCK_TOKENS = 16;

export interface FleetOptions {
  readonly engines: number;
  /** Blocks that each engine's cache has. */
  readonly blocksPerEngine: number;
  /** Stored over all engines; once the caches are full as many are evicted. */
  readonly blocksPerSecond: number;
  /** Conversations that go on at one time. */
  readonly conversations: number;
  readonly seed: number;
}

/** The same tokens for the same conversation, whoever asks. */
export function conversationTokens(conversation: number, blocks: number): Uint32Array {
  return Uint32Array.from(
    { length: blocks * BLOCK_TOKENS },
    (_, at) => (Math.imul(conversation + 1, 2_654_435_761) + Math.imul(at + 1, 40_503)) >>> 15,
  );
}
