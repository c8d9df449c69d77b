/**
 * Which prefixes are popular, and how many holders their traffic needs.
 *
 * A prompt is counted at its blocks 1, 2, 4, 8, ...: each such checkpoint key stands for the prefix
 * up to it and has a decayed sum of the work that its requests brought. The deepest checkpoint whose
 * work needs more than one endpoint is the prompt's popular prefix.
 */
import type { RouterConfig } from "./config.ts";

export interface PopularPrefix {
  readonly key: bigint;
  /** Blocks up to the checkpoint. */
  readonly blocks: number;
  /** Work that arrives for it, in seconds of one endpoint per second. */
  readonly workRate: number;
  /** Endpoints that should share it: at least 2. */
  readonly holdersNeeded: number;
}

/** Share of an endpoint's time that one prefix may be planned to fill. */
const PLANNED_UTILISATION = 0.7;

interface Arrivals {
  /** Decayed sum of work, seconds. */
  workSeconds: number;
  atMs: number;
}

export class Popularity {
  readonly #config: RouterConfig["popularity"];
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
    return this.#config.isOn ? [...checkpoints(keys)].map(({ key }) => key) : [];
  }

  /** Counts one dispatched request with the work it brings. */
  observe(keys: BigUint64Array, workSeconds: number, nowMs: number): void {
    if (!this.#config.isOn) return;
    for (const { key } of checkpoints(keys)) {
      const before = this.#decayed(key, nowMs);
      this.#arrivals.delete(key);
      this.#arrivals.set(key, { workSeconds: before + workSeconds, atMs: nowMs });
    }
    while (this.#arrivals.size > this.#config.prefixesMax) {
      const oldest = this.#arrivals.keys().next();
      if (oldest.done) return;
      this.#arrivals.delete(oldest.value);
    }
  }

  /** The deepest prefix of the prompt that needs several holders; null when none does. */
  popularPrefix(keys: BigUint64Array, nowMs: number): PopularPrefix | null {
    if (!this.#config.isOn) return null;
    let deepest: PopularPrefix | null = null;
    for (const { key, blocks } of checkpoints(keys)) {
      // A steady rate r of exponentially decayed arrivals sums to r x half-life / ln 2.
      const workRate = (this.#decayed(key, nowMs) * Math.LN2 * 1000) / this.#config.halfLifeMs;
      const holdersNeeded = Math.ceil(workRate / PLANNED_UTILISATION);
      if (holdersNeeded < 2) break;
      deepest = { key, blocks, workRate, holdersNeeded };
    }
    return deepest;
  }

  #decayed(key: bigint, nowMs: number): number {
    const arrivals = this.#arrivals.get(key);
    if (arrivals === undefined) return 0;
    const halfLives = Math.max(0, nowMs - arrivals.atMs) / this.#config.halfLifeMs;
    return arrivals.workSeconds * 0.5 ** halfLives;
  }
}

function* checkpoints(keys: BigUint64Array): Generator<{ key: bigint; blocks: number }> {
  for (let blocks = 1; blocks <= keys.length; blocks *= 2) {
    yield { key: keys[blocks - 1] ?? 0n, blocks };
  }
}
