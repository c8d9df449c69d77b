/**
 * Blocks of one holder that a connector said it stored, and of which nobody will say that they are
 * gone: each is believed for a bounded life from its newest store on.
 *
 * Pure: time is what the caller says it is.
 */
import { TIERS, type Tier, tierOrder } from "../tiers/tier.ts";

/** Hints of one holder; for those beyond, the oldest end. */
export const HINTS_MAX = 262_144;
/** Life of a hint where nothing else is said, ms. */
export const HINT_LIFE_MS = 300_000;

export interface EndedHints {
  readonly tier: Tier;
  readonly handles: BigUint64Array;
}

/** Shared by the messages that have none, which are most. */
const NONE_ENDED: readonly EndedHints[] = [];

export class Hints {
  readonly lifeMs: number;
  /** When each ends, by handle and tier; oldest first, because all live equally long. */
  readonly #endMs = new Map<bigint, number>();

  #saidAside: EndedHints[] = [];

  constructor(lifeMs: number) {
    this.lifeMs = lifeMs;
  }

  get size(): number {
    return this.#endMs.size;
  }

  has(tier: Tier, handle: bigint): boolean {
    return this.#endMs.has(placeOf(tier, handle));
  }

  /** `nowMs` null: its age is not known, so that it ends at the next look. */
  add(tier: Tier, handle: bigint, nowMs: number | null): void {
    const place = placeOf(tier, handle);
    this.#endMs.delete(place);
    this.#endMs.set(place, nowMs === null ? Number.NEGATIVE_INFINITY : nowMs + this.lifeMs);
  }

  /** The engine said itself that it is gone. */
  delete(tier: Tier, handle: bigint): void {
    this.#endMs.delete(placeOf(tier, handle));
  }

  clear(): void {
    this.#endMs.clear();
    this.#saidAside = [];
  }

  /** Takes those whose life is over. */
  takeEnded(nowMs: number): EndedHints[] {
    return this.#takeWhile((endMs) => endMs <= nowMs);
  }

  /** The same, said aside: what is said so and lost, nobody misses, so that it is to be said again. */
  takeEndedAside(nowMs: number): EndedHints[] {
    const ended = this.takeEnded(nowMs);
    this.#saidAside.push(...ended);
    return ended;
  }

  /** Takes those whose ends are to be said again. */
  takeSaidAside(): readonly EndedHints[] {
    if (this.#saidAside.length === 0) return NONE_ENDED;
    const saidAside = this.#saidAside;
    this.#saidAside = [];
    return saidAside;
  }

  /** Takes the oldest ones beyond the limit. */
  takeExcess(): EndedHints[] {
    return this.#takeWhile(() => this.#endMs.size > HINTS_MAX);
  }

  takeAll(): EndedHints[] {
    return this.#takeWhile(() => true);
  }

  #takeWhile(isTaken: (endMs: number) => boolean): EndedHints[] {
    const taken: bigint[][] = TIERS.map(() => []);
    for (const [place, endMs] of this.#endMs) {
      if (!isTaken(endMs)) break;
      this.#endMs.delete(place);
      taken[Number(place & 3n)]?.push(place >> 2n);
    }
    return TIERS.flatMap((tier, order) => {
      const handles = BigUint64Array.from(taken[order] ?? []);
      return handles.length === 0 ? [] : [{ tier, handles }];
    });
  }
}

function placeOf(tier: Tier, handle: bigint): bigint {
  return (handle << 2n) | BigInt(tierOrder(tier));
}
