/**
 * Keeps the store of record close behind the index, and says how it stands; a failing store never stops
 * serving, and a slow one never stops events: what changes meanwhile goes with the next flush.
 */
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import { type LmdbStoreThread, StoreError } from "../indexer/lmdb-store-thread.ts";
import type { Residency } from "../indexer/residency.ts";
import type { StoreProblem } from "../indexer/store-problem.ts";

/** Bytes of one transaction; a larger holder goes whole. */
export const FLUSH_BYTES_MAX = 67_108_864;
/** Lag beyond which a flush counts as late. */
export const STORE_LAG_MS_MAX = 5_000;
/** Pause before a failed flush is tried again: doubled from `flushMs` up to this. */
const RETRY_MS_MAX = 10_000;

export interface WriteBehindDeps {
  readonly store: Pick<LmdbStoreThread, "write" | "renew" | "close">;
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
  #problem: StoreProblem | null = null;
  #failures = 0;
  #isLate = false;
  /** What changed up to this moment is in the store, monotonic ms. */
  #writtenToMs: number;
  /** When the round under way began. */
  #roundMs: number | null = null;

  constructor(deps: WriteBehindDeps) {
    this.#deps = deps;
    this.#writtenToMs = deps.clock.nowMs();
    this.#task = this.#run();
  }

  /** Why changes are not written; null: they are. */
  get problem(): StoreProblem | null {
    return this.#problem;
  }

  /** Age of the oldest change that is not written, ms. */
  get lagMs(): number {
    const { residency, clock } = this.#deps;
    return residency.isDirty || this.#roundMs !== null ? clock.nowMs() - this.#writtenToMs : 0;
  }

  /** For people. */
  get detail(): string {
    if (this.#problem !== null) return `not written: ${this.#problem}`;
    return this.#isLate ? `behind by ${(this.lagMs / 1000).toFixed(1)} s` : "written behind";
  }

  /** Writes what is left and closes the store. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#task;
    const { residency, store } = this.#deps;
    while (residency.isDirty && this.#failures === 0) await this.#flush();
    await store.close();
  }

  async #run(): Promise<void> {
    const { clock, flushMs, residency } = this.#deps;
    const { signal } = this.#abort;
    while (!signal.aborted) {
      await sleep(clock, Math.min(RETRY_MS_MAX, flushMs * 2 ** this.#failures), signal);
      if (!residency.isDirty) this.#writtenToMs = clock.nowMs();
      // A round of several portions is written without a pause.
      while (residency.isDirty && !signal.aborted) {
        if (await this.#flush()) break;
      }
    }
  }

  /** Writes one portion. True when there is time until the next. */
  async #flush(): Promise<boolean> {
    const { store, residency, clock, meter } = this.#deps;
    this.#roundMs ??= clock.nowMs();
    const flush = residency.takeFlush(FLUSH_BYTES_MAX);
    try {
      residency.giveBack(await store.write(flush));
    } catch (error) {
      residency.putBack(flush);
      await this.#failed(error);
      return true;
    }
    let pages = 0;
    for (const { changed } of flush.holders) pages += changed.length;
    meter.count("kvatlas_store_pages_total", {}, pages);
    this.#failures = 0;
    this.#setProblem(null, "");
    if (flush.isRoundEnd) this.#endRound();
    else meter.count("kvatlas_store_flushes_total", { outcome: "written" });
    return flush.isRoundEnd && !this.#isLate;
  }

  #endRound(): void {
    const { clock, log, meter } = this.#deps;
    const lagMs = clock.nowMs() - this.#writtenToMs;
    this.#writtenToMs = this.#roundMs ?? clock.nowMs();
    this.#roundMs = null;
    const isLate = lagMs > STORE_LAG_MS_MAX;
    if (isLate && !this.#isLate) log.warn({ lag_ms: lagMs }, "the store falls behind the index");
    this.#isLate = isLate;
    meter.count("kvatlas_store_flushes_total", { outcome: isLate ? "late" : "written" });
  }

  async #failed(error: unknown): Promise<void> {
    const { store, residency, meter } = this.#deps;
    this.#failures += 1;
    this.#roundMs = null;
    meter.count("kvatlas_store_flushes_total", { outcome: "failed" });
    const problem = error instanceof StoreError ? error.problem : "failed";
    this.#setProblem(problem, messageOf(error));
    if (problem !== "damaged" && problem !== "foreign") return;
    try {
      await store.renew();
      residency.writeAll();
    } catch (again) {
      this.#setProblem("failed", messageOf(again));
    }
  }

  #setProblem(problem: StoreProblem | null, error: string): void {
    const { log, meter } = this.#deps;
    if (problem !== null && problem !== this.#problem) {
      log.error({ problem, error }, "writing to the store failed: serving from memory");
    }
    if (problem === null && this.#problem !== null) log.info({}, "the store is written again");
    this.#problem = problem;
    meter.gauge("kvatlas_degraded", { component: "store" }, problem === null ? 0 : 1);
    meter.resetGauge("kvatlas_store_problem");
    if (problem !== null) meter.gauge("kvatlas_store_problem", { problem }, 1);
  }
}
