/** Lets go of what would be written, where there is no store: rows of blocks that are gone, and holders. */
import { type Clock, sleep } from "../core/clock.ts";
import type { Residency } from "../indexer/residency.ts";

const INTERVAL_MS = 1000;

export class Unwritten {
  readonly #abort = new AbortController();
  readonly #task: Promise<void>;

  constructor(residency: Residency, clock: Clock) {
    this.#task = this.#run(residency, clock);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#task;
  }

  async #run(residency: Residency, clock: Clock): Promise<void> {
    while (!this.#abort.signal.aborted) {
      await sleep(clock, INTERVAL_MS, this.#abort.signal);
      residency.takeDirty();
    }
  }
}
