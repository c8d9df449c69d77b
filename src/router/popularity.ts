/**
 * Which prefixes are popular, how many holders their traffic needs, and which endpoints hold them.
 *
 * A prompt is counted at its blocks 1, 2, 4, 8, ...: each such checkpoint key stands for the prefix
 * up to it and has a decayed sum of the work that its requests brought. The deepest checkpoint whose
 * work needs more than one endpoint is the prompt's popular prefix.
 *
 * An endpoint that is sent a request of a popular prefix is its holder from then on, until it was sent
 * none for a half-life: by then its engine may let go of the blocks.
 */
import type { EndpointId } from "../core/ids.ts";
import type { RouterConfig } from "./config.ts";

export interface PopularPrefix {
  readonly key: bigint;
  /** Blocks up to the checkpoint. */
  readonly blocks: number;
  /** Work that arrives for it, in seconds of one endpoint per second. */
  readonly workRate: number;
  /** Endpoints that should share it: at least 2. */
  readonly holdersNeeded: number;
  /** Endpoints that hold it, the one that has been a holder for longest first. */
  readonly holders: readonly EndpointId[];
}

/**
 * Share of an endpoint's time that one prefix is planned to fill: what all prefixes fill of the mean
 * endpoint, so that holders are as busy as others, within these.
 */
const PLANNED_UTILISATION_MIN = 0.05;
const PLANNED_UTILISATION = 0.7;

interface Arrivals {
  /** Decayed sum of work, seconds. */
  workSeconds: number;
  atMs: number;
  /** When each holder was sent a request last, ms, in the order in which they became holders. */
  readonly heldMs: Map<EndpointId, number>;
  /** None of them was sent its last one before, ms. */
  heldFromMs: number;
}

/** One dispatched request. */
export interface Arrival {
  readonly endpointId: EndpointId;
  /** Work that it brings, seconds. */
  readonly workSeconds: number;
  readonly nowMs: number;
  /** Size of the fleet. */
  readonly endpoints: number;
}

export class Popularity {
  readonly #config: RouterConfig["popularity"];
  /** Of all prompts. */
  readonly #all: Arrivals = { workSeconds: 0, atMs: 0, heldMs: new Map(), heldFromMs: 0 };
  /** Least recently seen first. */
  readonly #arrivals = new Map<bigint, Arrivals>();

  constructor(config: RouterConfig["popularity"]) {
    this.#config = config;
  }

  get size(): number {
    return this.#arrivals.size;
  }

  /** The keys at which a prompt is counted; none when the cap is off. */
  checkpointKeys(keys: BigUint64Array): bigint[] {
    return this.#config.isOn ? checkpoints(keys) : [];
  }

  /** Counts one dispatched request. */
  observe(keys: BigUint64Array, arrival: Arrival): void {
    if (!this.#config.isOn) return;
    const { endpointId, nowMs } = arrival;
    this.#add(this.#all, arrival);
    const utilisation = this.#plannedUtilisation(arrival);
    for (const key of checkpoints(keys)) {
      const known = this.#arrivals.get(key);
      const arrivals = known ?? {
        workSeconds: 0,
        atMs: nowMs,
        heldMs: new Map(),
        heldFromMs: nowMs,
      };
      this.#add(arrivals, arrival);
      this.#arrivals.delete(key);
      this.#arrivals.set(key, arrivals);
      this.#ageHolders(arrivals, nowMs);
      const holdersNeeded = Math.ceil(this.#workRate(arrivals, nowMs) / utilisation);
      if (holdersNeeded >= 2) arrivals.heldMs.set(endpointId, nowMs);
    }
    while (this.#arrivals.size > this.#config.prefixesMax) {
      const oldest = this.#arrivals.keys().next();
      if (oldest.done) return;
      this.#arrivals.delete(oldest.value);
    }
  }

  /** The deepest prefix of the prompt that needs several holders; null when none does. */
  popularPrefix(
    keys: BigUint64Array,
    { nowMs, endpoints }: Pick<Arrival, "nowMs" | "endpoints">,
  ): PopularPrefix | null {
    if (!this.#config.isOn) return null;
    const utilisation = this.#plannedUtilisation({ nowMs, endpoints });
    let deepest: (Omit<PopularPrefix, "holders"> & { readonly arrivals: Arrivals }) | null = null;
    for (let blocks = 1; blocks <= keys.length; blocks *= 2) {
      const key = keys[blocks - 1] ?? 0n;
      const arrivals = this.#arrivals.get(key);
      const workRate = this.#workRate(arrivals, nowMs);
      const holdersNeeded = Math.ceil(workRate / utilisation);
      if (arrivals === undefined || holdersNeeded < 2) break;
      deepest = { key, blocks, workRate, holdersNeeded, arrivals };
    }
    if (deepest === null) return null;
    const { arrivals, ...prefix } = deepest;
    this.#ageHolders(arrivals, nowMs);
    return { ...prefix, holders: [...arrivals.heldMs.keys()] };
  }

  #plannedUtilisation({ nowMs, endpoints }: Pick<Arrival, "nowMs" | "endpoints">): number {
    const mean = this.#workRate(this.#all, nowMs) / Math.max(1, endpoints);
    return Math.min(PLANNED_UTILISATION, Math.max(PLANNED_UTILISATION_MIN, mean));
  }

  #add(arrivals: Arrivals, { workSeconds, nowMs }: Arrival): void {
    arrivals.workSeconds = this.#decayed(arrivals, nowMs) + workSeconds;
    arrivals.atMs = nowMs;
  }

  /** A steady rate r of exponentially decayed arrivals sums to r x half-life / ln 2. */
  #workRate(arrivals: Arrivals | undefined, nowMs: number): number {
    return (this.#decayed(arrivals, nowMs) * Math.LN2 * 1000) / this.#config.halfLifeMs;
  }

  /** Looks at each of them only when one may be too old. */
  #ageHolders(arrivals: Arrivals, nowMs: number): void {
    const { heldMs } = arrivals;
    const { halfLifeMs } = this.#config;
    if (nowMs - arrivals.heldFromMs <= halfLifeMs) return;
    let fromMs = nowMs;
    for (const [endpointId, lastMs] of heldMs) {
      if (nowMs - lastMs > halfLifeMs) heldMs.delete(endpointId);
      else fromMs = Math.min(fromMs, lastMs);
    }
    arrivals.heldFromMs = fromMs;
  }

  #decayed(arrivals: Arrivals | undefined, nowMs: number): number {
    if (arrivals === undefined) return 0;
    const halfLives = Math.max(0, nowMs - arrivals.atMs) / this.#config.halfLifeMs;
    return arrivals.workSeconds * 0.5 ** halfLives;
  }
}

function checkpoints(keys: BigUint64Array): bigint[] {
  const found: bigint[] = [];
  for (let blocks = 1; blocks <= keys.length; blocks *= 2) found.push(keys[blocks - 1] ?? 0n);
  return found;
}
