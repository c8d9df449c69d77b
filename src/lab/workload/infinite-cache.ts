/** How much of a sequence of prompts could be reused if nothing were ever evicted. */

export interface ReusableTokens {
  readonly promptTokens: number;
  /** Tokens in leading blocks that an earlier prompt of the sequence had as well. */
  readonly reusableTokens: number;
}

/**
 * Counts whole blocks, and never a prompt's last token, as engines do. A block is known by a 53-bit
 * hash of its tokens and all before them: for a statistic, not for routing.
 */
export function measureReuse(
  prompts: Iterable<Uint32Array>,
  blockSizeTokens: number,
): ReusableTokens {
  const seen = new Set<number>();
  let promptTokens = 0;
  let reusableTokens = 0;
  for (const prompt of prompts) {
    promptTokens += prompt.length;
    const hashes = chainHashes(prompt, blockSizeTokens);
    const firstUnseen = hashes.findIndex((hash) => !seen.has(hash));
    const hitBlocks = firstUnseen === -1 ? hashes.length : firstUnseen;
    const usableBlocks = Math.floor((prompt.length - 1) / blockSizeTokens);
    reusableTokens += Math.max(0, Math.min(hitBlocks, usableBlocks)) * blockSizeTokens;
    for (const hash of hashes) seen.add(hash);
  }
  return { promptTokens, reusableTokens };
}

/** A hash for each full block, from the start of the prompt to the block's end. */
function chainHashes(prompt: Uint32Array, blockSizeTokens: number): number[] {
  const hashes: number[] = [];
  let low = 0x811c9dc5;
  let high = 0x9e3779b9;
  for (const [index, token] of prompt.entries()) {
    low = Math.imul(low ^ token, 0x01000193);
    high = Math.imul((high ^ token) + (high >>> 13), 0x85ebca6b);
    if ((index + 1) % blockSizeTokens === 0) {
      hashes.push((low >>> 0) * 0x20_0000 + (high >>> 11));
    }
  }
  return hashes;
}
