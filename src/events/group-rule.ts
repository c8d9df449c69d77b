/**
 * Which KV-cache groups of a holder make a prefix, and which of them are counted apart.
 *
 * vLLM splits a model's layers into groups of equal size, so that one with several kinds of attention may
 * have two or more groups of full attention, and a prefix is usable where all of them have it
 * (get_cached_block gives nothing where one of the groups lacks the block). Every BlockStored and
 * BlockRemoved of the GPU names its group (`group_idx`, one event for each group and the same hashes);
 * so do the offloading's, whose kind is told only where they describe themselves. Read in vLLM 0.33.0:
 * v1/core/block_pool.py and kv_cache_coordinator.py, offloading/events.py. Pure.
 */
import type { BlockStored } from "./kv-event.ts";

/** Kinds of attention whose blocks make a prefix reusable by themselves. */
const FULL_ATTENTION_KINDS: ReadonlySet<string> = new Set([
  "full_attention",
  "mla_attention",
  "sink_full_attention",
]);
const UNKNOWN_KIND = "unknown";
/** Groups of one holder that are remembered as left out or as unclear; models have a handful. */
const GROUPS_MAX = 1024;
/** Groups of full attention of one holder that are counted apart. */
export const FULL_GROUPS_MAX = 16;

/**
 * - left-out: its blocks make no prefix; `isNews`: that is to be told
 * - one: as if there were one group alone; `isUnclear`: it is another one, of a kind that was not told
 * - apart: one of several; `isNews`: nothing was counted for it so far; `isUnclear`: its blocks have other
 *   sizes than those of the first, so that the same hash stands for different tokens
 */
export type GroupPlace =
  | { readonly is: "left-out"; readonly isNews: boolean }
  | { readonly is: "one"; readonly isUnclear: boolean }
  | {
      readonly is: "apart";
      readonly group: number;
      readonly isNews: boolean;
      readonly isUnclear: boolean;
    };

/** What tells the group of a store. */
export type GroupedStore = Pick<BlockStored, "group" | "specKind" | "blockSizeTokens">;

const LEFT_OUT: GroupPlace = { is: "left-out", isNews: false };
const ONE: GroupPlace = { is: "one", isUnclear: false };
const UNCLEAR: GroupPlace = { is: "one", isUnclear: true };

export class GroupRule {
  readonly #ignored = new Set<number>();
  /** Groups whose kind was not told, counted with the first one. */
  readonly #unclear = new Set<number>();
  /** Full groups that are counted apart; empty while there is one. */
  readonly #apart = new Set<number>();
  /** The group that was named first; null until an event names one. */
  #first: number | null = null;
  #isFirstTold = false;
  /** Size of the full groups' blocks, tokens; 0: not told. */
  #sizeTokens = 0;

  /** The full groups that are counted apart, the first one first; none while there is one. */
  get apart(): readonly number[] {
    return [...this.#apart];
  }

  placeOfStored(event: GroupedStore): GroupPlace {
    const { group, specKind } = event;
    if (group === null) return ONE;
    if (this.#ignored.has(group)) return LEFT_OUT;
    const isTold = specKind !== null && specKind !== UNKNOWN_KIND;
    const isFull = isTold && FULL_ATTENTION_KINDS.has(specKind);
    if (isTold && !isFull) return { is: "left-out", isNews: this.ignore(group) };
    if (this.#apart.has(group)) return this.#placeApart(event, group, false);
    this.#first ??= group;
    if (group === this.#first) {
      this.#isFirstTold ||= isFull;
      this.#sizeTokens ||= event.blockSizeTokens;
      return ONE;
    }
    const isRoom = this.#apart.size < FULL_GROUPS_MAX && !this.#unclear.has(group);
    if (isFull && this.#isFirstTold && isRoom) {
      this.setApart([this.#first, group]);
      return this.#placeApart(event, group, true);
    }
    if (this.#unclear.size < GROUPS_MAX) this.#unclear.add(group);
    return UNCLEAR;
  }

  /** The full group that a removal is counted for, null: the one; undefined: none of its blocks are here. */
  groupOfRemoved(group: number | null): number | null | undefined {
    if (group === null) return null;
    if (this.#apart.has(group)) return group;
    if (this.#ignored.has(group)) return undefined;
    const isOne = this.#first === null || group === this.#first || this.#unclear.has(group);
    return isOne ? null : undefined;
  }

  /** Leaves a group out from now on. False: it was known, or is one too many. */
  ignore(group: number): boolean {
    const isNews = !this.#ignored.has(group) && this.#ignored.size < GROUPS_MAX;
    if (isNews) this.#ignored.add(group);
    return isNews;
  }

  /** Counts these full groups apart from now on. */
  setApart(groups: readonly number[]): void {
    if (groups.length === 0) return;
    this.#first ??= groups[0] ?? null;
    this.#isFirstTold = true;
    for (const group of groups) if (this.#apart.size < FULL_GROUPS_MAX) this.#apart.add(group);
  }

  clear(): void {
    this.#ignored.clear();
    this.#unclear.clear();
    this.#apart.clear();
    this.#first = null;
    this.#isFirstTold = false;
    this.#sizeTokens = 0;
  }

  #placeApart({ blockSizeTokens }: GroupedStore, group: number, isNews: boolean): GroupPlace {
    this.#sizeTokens ||= blockSizeTokens;
    const isUnclear = blockSizeTokens > 0 && blockSizeTokens !== this.#sizeTokens;
    return { is: "apart", group, isNews, isUnclear };
  }
}
