/**
 * What a popular prefix may have outstanding at each endpoint, and which of its holders are too many.
 * Pure: a view of one decision's input.
 */
import type { EndpointId } from "../core/ids.ts";
import type { PrefixWork } from "../fleet/prefix-works.ts";
import type { RouterConfig } from "./config.ts";
import type { PopularPrefix } from "./popularity.ts";

export interface CapInput {
  readonly popularPrefix: PopularPrefix | null;
  /** Waiting work of the popular prefix by endpoint. */
  readonly prefixWork: ReadonlyMap<EndpointId, PrefixWork>;
  readonly config: RouterConfig;
}

/** What one endpoint has of the prefix's outstanding work. */
export interface CapState {
  /** Before this request, seconds. */
  readonly outstandingSeconds: number;
  /** What it may have with this request, seconds. */
  readonly limitSeconds: number;
  readonly isCapped: boolean;
  /** core: one of the holders that the arrivals need; surplus: one too many; none: no holder. */
  readonly holder: "core" | "surplus" | "none";
}

export class PopularityCap {
  /** True while there are fewer holders than the arrivals need. */
  readonly needsHolder: boolean;
  readonly #input: CapInput;
  readonly #core: ReadonlySet<EndpointId>;
  /** Holders beyond those that the arrivals need, numbered from 1 in the order in which they were made. */
  readonly #surplus: ReadonlyMap<EndpointId, number>;
  readonly #sharers: number;
  readonly #outstandingSeconds: number;

  /** `candidates`: how many may be chosen; `isCandidate`: whether one of them. */
  constructor(
    input: CapInput,
    candidates: number,
    isCandidate: (endpointId: EndpointId) => boolean,
  ) {
    this.#input = input;
    const { holders = [], holdersNeeded = 0 } = input.popularPrefix ?? {};
    const present = holders.filter(isCandidate);
    this.#sharers = Math.max(1, Math.min(holdersNeeded, candidates));
    this.#core = new Set(present.slice(0, this.#sharers));
    const surplus = present.slice(this.#sharers);
    this.#surplus = new Map(surplus.map((endpointId, index) => [endpointId, index + 1]));
    this.needsHolder = present.length < this.#sharers;
    let outstandingSeconds = 0;
    for (const { workSeconds } of input.prefixWork.values()) outstandingSeconds += workSeconds;
    this.#outstandingSeconds = outstandingSeconds;
  }

  /**
   * Outstanding work, this request's included, stays within (1 + slack) x an equal share among the
   * holders needed. A little is always allowed, and so is the first request at an endpoint. Null: the
   * prompt has no popular prefix.
   */
  at(endpointId: EndpointId, workSeconds: number): CapState | null {
    const { popularPrefix, prefixWork, config } = this.#input;
    if (popularPrefix === null) return null;
    const { slack, floorSeconds } = config.popularity;
    const outstandingSeconds = prefixWork.get(endpointId)?.workSeconds ?? 0;
    const share = (this.#outstandingSeconds + workSeconds) / this.#sharers;
    const limitSeconds = Math.max(floorSeconds, (1 + slack) * share);
    return {
      outstandingSeconds,
      limitSeconds,
      isCapped: outstandingSeconds > 0 && outstandingSeconds + workSeconds > limitSeconds,
      holder: this.#holder(endpointId),
    };
  }

  /** By how many holders too many it would be chosen; what is no holder comes after all that are. */
  surplus(endpointId: EndpointId): number {
    if (this.#input.popularPrefix === null || this.needsHolder) return 0;
    if (this.#core.has(endpointId)) return 0;
    return this.#surplus.get(endpointId) ?? this.#surplus.size + 1;
  }

  #holder(endpointId: EndpointId): CapState["holder"] {
    if (this.#core.has(endpointId)) return "core";
    return this.#surplus.has(endpointId) ? "surplus" : "none";
  }
}
