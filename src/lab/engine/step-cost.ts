/**
 * How long a scheduler step takes: the stated model of the simulated accelerator.
 *
 * seconds = stepBaseSeconds
 *         + over prefills of n tokens behind h computed ones:
 *             n * prefillSecondsPerToken + n * (h + n/2) * attnSecondsPerPair
 *         + over decodes: context tokens * decodeSecondsPerContextToken
 */

export interface StepCost {
  /** Constant part: weights read once, scheduling. Seconds. */
  readonly stepBaseSeconds: number;
  readonly prefillSecondsPerToken: number;
  /** Attention work per pair of a new token and one before it. Seconds. */
  readonly attnSecondsPerPair: number;
  /** Reading the KV of one context token for one decoded token. Seconds. */
  readonly decodeSecondsPerContextToken: number;
}

/**
 * An 8B model with grouped-query attention on one H100, from data sheets: 34,000 prefill tokens/s
 * and a 7 ms step; 0.52 MFLOP per attention pair at the prefill's 545 TFLOP/s; 131,072 bytes of KV
 * per token at 3.35 TB/s.
 */
export const H100_8B_COST: StepCost = {
  stepBaseSeconds: 0.007,
  prefillSecondsPerToken: 1 / 34_000,
  attnSecondsPerPair: 1e-9,
  decodeSecondsPerContextToken: 3.9e-8,
};

/** Seconds that a prefill of `newTokens` behind `computedTokens` adds to a step. */
export function prefillSeconds(cost: StepCost, computedTokens: number, newTokens: number): number {
  const pairs = newTokens * (computedTokens + newTokens / 2);
  return newTokens * cost.prefillSecondsPerToken + pairs * cost.attnSecondsPerPair;
}

/** Seconds that one decoded token adds to a step. */
export function decodeSeconds(cost: StepCost, contextTokens: number): number {
  return contextTokens * cost.decodeSecondsPerContextToken;
}
