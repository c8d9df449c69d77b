/** Choices from one seed: a history is repeated by its number. */
import { seededRandom } from "../../src/core/random.ts";

export class Chance {
  readonly #random: { next(): number };

  constructor(seed: number) {
    this.#random = seededRandom(Math.imul(seed, 0x9e37_79b1) ^ 0x5bd1_e995);
  }

  /** True with this probability. */
  is(probability: number): boolean {
    return this.#random.next() < probability;
  }

  /** From 0, below the limit. */
  below(limit: number): number {
    return Math.floor(this.#random.next() * limit);
  }

  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  /** One of them; there must be one. */
  of<Choice>(choices: readonly Choice[]): Choice {
    const chosen = choices[this.below(choices.length)];
    if (chosen === undefined) throw new Error("nothing to choose from");
    return chosen;
  }
}
