/** What can be asked of the index from outside, apart from how it is asked. */
import type { EndpointId, Holder } from "../core/ids.ts";
import type { KnownState } from "../router/known-state.ts";
import type { Tier } from "../tiers/tier.ts";

export type PromptQuery =
  | {
      readonly kind: "tokens";
      readonly tokens: Uint32Array;
      /** LoRA adapter's name; null for the base model. */
      readonly lora: string | null;
      readonly cacheSalt: string | null;
    }
  | { readonly kind: "keys"; readonly keys: BigUint64Array; readonly blockSizeTokens: number };

/** What one endpoint holds of a prompt, in tokens of whole blocks. */
export interface EndpointHolding {
  readonly endpointId: EndpointId;
  readonly state: KnownState;
  /** Leading tokens in the GPU. */
  readonly gpuPrefixTokens: number;
  /** Leading tokens in any tier: the sum of `tokensByTier`. */
  readonly prefixTokens: number;
  /** Each block counted under its fastest tier. */
  readonly tokensByTier: Readonly<Record<Tier, number>>;
  /** Leading tokens that it has or a shared tier, also one of another endpoint, could supply. */
  readonly reachableTokens: number;
}

export interface MatchAnswer {
  /** In the order of the endpoints file; endpoints without the first block are left out. */
  readonly endpoints: readonly EndpointHolding[];
  /** Which can reach the most, then has the most, the first of equals; null: nothing is held. */
  readonly best: EndpointHolding | null;
  readonly promptTokens: number;
  /** Leading tokens that shared tiers alone could supply. */
  readonly sharedPrefixTokens: number;
  /** Leading tokens of which each block is somewhere, in whatever tier: what was possible. */
  readonly availableTokens: number;
}

export interface BlockPlace {
  readonly holder: Holder;
  readonly tier: Tier;
}

export interface PodState {
  readonly endpointId: EndpointId;
  readonly name: string;
  /** ready, or why it is given no requests. */
  readonly ready: string;
  /** Of its worst rank. */
  readonly state: KnownState;
  readonly ranks: readonly RankState[];
}

export interface RankState {
  readonly rank: number;
  readonly state: KnownState;
  readonly blockSizeTokens: number | null;
}

export interface QueryStats {
  /** Distinct keys. */
  readonly blocks: number;
  readonly entriesByTier: Readonly<Record<Tier, number>>;
  readonly endpointsByState: Readonly<Record<KnownState["state"], number>>;
  readonly blockSizesTokens: readonly number[];
}

/** Answers at once, from what is known; changes nothing. */
export interface IndexQueries {
  match(query: PromptQuery): MatchAnswer;
  residency(key: bigint): readonly BlockPlace[];
  pods(): readonly PodState[];
  stats(): QueryStats;
}
