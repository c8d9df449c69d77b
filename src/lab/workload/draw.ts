/** Draws from the distributions that workloads are made of. */
import type { Random } from "../../core/random.ts";

/** Token ids of a workload are below this; the ids above are special in the lab's vocabulary. */
const TOKEN_IDS = 128_000;

/** Both ends are included. */
export interface IntRange {
  readonly min: number;
  readonly max: number;
}

export function mean(range: IntRange): number {
  return (range.min + range.max) / 2;
}

export function drawInt(random: Random, range: IntRange): number {
  return range.min + Math.floor(random.next() * (range.max - range.min + 1));
}

/** Exponential: gaps of a Poisson process, or times to think. */
export function drawExponential(random: Random, meanValue: number): number {
  return -meanValue * Math.log(1 - random.next());
}

/** An index from 0; index i has weight 1 / (i + 1). */
export function drawZipf(random: Random, count: number): number {
  const weights = Array.from({ length: count }, (_, index) => 1 / (index + 1));
  let left = random.next() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [index, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return index;
  }
  return count - 1;
}

export function drawTokens(random: Random, tokens: number): Uint32Array {
  return Uint32Array.from({ length: tokens }, () => Math.floor(random.next() * TOKEN_IDS));
}
