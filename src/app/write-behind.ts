/** Keeps the store of record close behind the index; a failing store never stops serving. */
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { LmdbStore } from "../indexer/lmdb-store.ts";
import type { Residency } from "../indexer/residency.ts";

export interface WriteBehindDeps {
  readonly store: LmdbStore;
  readonly residency: Residency;
  readonly flushMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class WriteBehind {
  readonly #deps: WriteBehindDeps;
  readonly #abort = new AbortController();
  readonly #task: Promise<void>;
  #isFailing = false;

  constructor(deps: WriteBehindDeps) {
    this.#deps = deps;
    this.#task = this.#run();
  }

  /** Writes what is left and closes the store. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#task;
    this.#flush();
    await this.#deps.store.close();
  }

  async #run(): Promise<void> {
    const { clock, flushMs, residency } = this.#deps;
    while (!this.#abort.signal.aborted) {
      await sleep(clock, flushMs, this.#abort.signal);
      if (residency.isDirty) this.#flush();
    }
  }

  #flush(): void {
    const { store, residency, log, meter } = this.#deps;
    try {
      const rows = store.flush(residency);
      meter.count("kvatlas_store_flushes_total", { outcome: "written" });
      meter.count("kvatlas_store_rows_total", {}, rows);
      this.#isFailing = false;
    } catch (error) {
      meter.count("kvatlas_store_flushes_total", { outcome: "failed" });
      if (!this.#isFailing) log.error({ error: messageOf(error) }, "writing to the store failed");
      this.#isFailing = true;
    }
    meter.gauge("kvatlas_degraded", { component: "store" }, this.#isFailing ? 1 : 0);
  }
}
