/** Refused connections and broken answers of one endpoint: evidence that fades. */

/** Half of the evidence is gone after this, ms. */
const HALF_LIFE_MS = 2_000;
/** More says no more. */
const COUNT_MAX = 16;

export class Faults {
  #count = 0;
  #atMs = 0;

  add(nowMs: number): void {
    this.#count = Math.min(COUNT_MAX, this.weight(nowMs) + 1);
    this.#atMs = nowMs;
  }

  /** Faults, those of `HALF_LIFE_MS` ago counted half; 0 for an endpoint that works. */
  weight(nowMs: number): number {
    if (this.#count === 0) return 0;
    return this.#count * 0.5 ** (Math.max(0, nowMs - this.#atMs) / HALF_LIFE_MS);
  }
}
