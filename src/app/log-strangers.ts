/**
 * Whose batches of the log are taken: those of the fleet, and of who may be about to join it. Of one that
 * has left nothing comes back, though its relay still publishes. Pure.
 */
import { type Holder, holderName } from "../core/ids.ts";

/** Holders outside the fleet whose batches are taken, between two changes of the fleet. */
export const JOINING_MAX = 1024;
/** Holders that have left and are remembered, oldest forgotten first. */
export const LEFT_MAX = 16_384;

export class LogStrangers {
  /** Null: the fleet is not known yet. */
  #fleet: ReadonlySet<string> | null = null;
  readonly #left = new Set<string>();
  readonly #joining = new Set<string>();

  reconcile(holders: readonly Holder[]): void {
    const fleet = new Set(holders.map(holderName));
    for (const name of this.#fleet ?? []) if (!fleet.has(name)) this.#left.add(name);
    for (const name of fleet) this.#left.delete(name);
    for (const name of this.#left) {
      if (this.#left.size <= LEFT_MAX) break;
      this.#left.delete(name);
    }
    this.#joining.clear();
    this.#fleet = fleet;
  }

  admits(holder: Holder): boolean {
    if (this.#fleet === null) return true;
    const name = holderName(holder);
    if (this.#fleet.has(name)) return true;
    if (this.#left.has(name)) return false;
    if (this.#joining.size < JOINING_MAX) this.#joining.add(name);
    return this.#joining.has(name);
  }
}
