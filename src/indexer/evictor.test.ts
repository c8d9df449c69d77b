/** What a full index keeps, by hits: against lists of what was stored or matched last, exact to the block. */
import { expect, it } from "vitest";
import {
  hitRate,
  PlainLru,
  type TracedIndex,
  type TraceOptions,
} from "../../test/harness/eviction-trace.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { HotIndex } from "./hot-index.ts";
import { Residency } from "./residency.ts";

/** The real ones, in one thread. */
class RealIndex implements TracedIndex {
  readonly #index = new HotIndex(100_000);
  readonly #residency: Residency;
  readonly evicted = new Map<string, number>();
  readonly #holders: Holder[];

  constructor(holders: number, entriesMax: number) {
    const index = this.#index;
    const onEvicted = ({ endpointId: id }: Holder, blocks: number): void => {
      this.evicted.set(id, (this.evicted.get(id) ?? 0) + blocks);
    };
    this.#residency = new Residency({ index, entriesMax, guide: index, onEvicted });
    this.#holders = Array.from({ length: holders }, (_, number) => ({
      endpointId: endpointId(`10.0.0.${number}:8000`),
      rank: 0,
    }));
  }

  stored(holder: number, keys: readonly bigint[]): void {
    const words = BigUint64Array.from(keys);
    this.#residency.stored(this.#holder(holder), "gpu", words, words);
  }

  removed(holder: number, keys: readonly bigint[]): void {
    this.#residency.removed(this.#holder(holder), "gpu", BigUint64Array.from(keys));
  }

  match(holder: number, keys: readonly bigint[]): number {
    const { endpointId: id } = this.#holder(holder);
    const matches = this.#index.match(BigUint64Array.from(keys));
    return matches.find((match) => match.holder.endpointId === id)?.blocks ?? 0;
  }

  #holder(number: number): Holder {
    const holder = this.#holders[number];
    if (holder === undefined) throw new Error("no such holder");
    return holder;
  }
}

it.each([
  [0.7, "popular prompts", { zipf: 0.9, drift: 0.05 }, 1, 2],
  [0.4, "very popular prompts", { zipf: 1.2, drift: 0.05 }, 1, 2],
  [0.4, "prompts that change fast", { zipf: 0.9, drift: 0.3 }, 0.95, 1.5],
  // What was asked for is not asked for again: here LRU keeps what came last, and hits more.
  [0.5, "prompts that are asked for nearly alike", { zipf: 0.5, drift: 0.05 }, 0.8, 0.85],
] as const)(
  "with room for %d of the fleet's blocks and %s finds more than by stores, and about what exact LRU does",
  (share, _, traffic, ofLru, ofStores) => {
    const options: TraceOptions = {
      ...{ holders: 4, engineBlocks: 4000, prompts: 1200, requests: 8000, seed: 3 },
      ...traffic,
    };
    const entriesMax = Math.floor(share * options.holders * options.engineBlocks);
    const real = new RealIndex(options.holders, entriesMax);
    const rate = hitRate(real, options);
    expect(rate).toBeGreaterThan(ofLru * hitRate(new PlainLru(entriesMax, true), options));
    expect(rate).toBeGreaterThan(ofStores * hitRate(new PlainLru(entriesMax, false), options));
    // Every holder loses its part.
    const lost = [...real.evicted.values()];
    expect(lost).toHaveLength(options.holders);
    expect(Math.max(...lost)).toBeLessThan(3 * Math.min(...lost));
  },
);
