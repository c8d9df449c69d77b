/** The index with its store of record: opened, restored while it serves, and kept close behind. */
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import { type Holder, holderName } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import { entriesIn, type IndexerConfig } from "../indexer/config.ts";
import type { EvictionBoard } from "../indexer/eviction-board.ts";
import { EvictionWatch } from "../indexer/eviction-watch.ts";
import type { Aside } from "../indexer/file-store-guard.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { LmdbStoreThread, StoreError } from "../indexer/lmdb-store-thread.ts";
import { Residency } from "../indexer/residency.ts";
import { type RestoreOutcome, Restorer } from "../indexer/restorer.ts";
import { INDEX_BLOCKS_MAX } from "../indexer/table-memory.ts";
import { TIERS } from "../tiers/tier.ts";
import { WriteBehind } from "./write-behind.ts";

/** Bytes of pages that are restored in one turn of the event loop: some milliseconds. */
const PORTION_BYTES = 2 ** 19;

export interface IndexCoreDeps {
  /** Told of every removal. */
  readonly evictions: EvictionBoard;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

interface Opened {
  readonly path: string;
  readonly store: LmdbStoreThread;
  readonly restorer: Restorer;
  readonly aside: Aside | null;
}

export class IndexCore {
  readonly index: HotIndex;
  readonly residency: Residency;
  /** When all holders are known, each as good as it is restored; requests are answered. */
  readonly opened: Promise<void>;
  /** When everything that the store has is in the index; false: it was stopped before. Never rejects. */
  readonly restored: Promise<boolean>;
  readonly #table: Pick<HotIndex, "byteLength">;
  readonly #deps: IndexCoreDeps;
  readonly #config: IndexerConfig;
  #opened: Opened | null = null;
  #writeBehind: WriteBehind | null = null;
  #isStopped = false;
  /** As counted so far. */
  #refused: HotIndex["refused"] = { table: 0, holders: 0 };
  #detail = "in memory only, as configured";

  constructor(config: IndexerConfig, deps: IndexCoreDeps) {
    this.#deps = deps;
    this.#config = config;
    const { bytesMax, path } = config;
    const entriesMax = entriesIn(bytesMax);
    const index = new HotIndex(Math.min(entriesMax, INDEX_BLOCKS_MAX));
    this.index = index;
    this.#table = index;
    this.residency = new Residency({
      index: new EvictionWatch(index, deps.evictions),
      entriesMax,
      guide: index,
      onEvicted: (holder, blocks): void => this.#evicted(holder, blocks),
    });
    this.opened = path === null ? Promise.resolve() : this.#open(path);
    this.restored = this.opened.then(() => this.#restore());
  }

  /** For people: where the index is kept. */
  get storeDetail(): string {
    return this.#writeBehind === null
      ? this.#detail
      : `${this.#detail}; ${this.#writeBehind.detail}`;
  }

  /** Sets the gauges of the index; called before metrics are read. */
  report(): void {
    const { meter } = this.#deps;
    const { blocks, entriesByTier } = this.index.stats();
    meter.gauge("kvatlas_index_blocks", {}, blocks);
    meter.gauge("kvatlas_index_bytes", { part: "table" }, this.#table.byteLength);
    meter.gauge("kvatlas_index_bytes", { part: "residency" }, this.residency.byteLength);
    for (const tier of TIERS) meter.gauge("kvatlas_index_entries", { tier }, entriesByTier[tier]);
    const { refused } = this.index;
    for (const limit of ["table", "holders"] as const) {
      const counted = refused[limit] - this.#refused[limit];
      if (counted > 0) meter.count("kvatlas_index_refused_total", { limit }, counted);
    }
    this.#refused = refused;
    const isWritten = this.#writeBehind !== null;
    meter.gauge("kvatlas_store_dirty_pages", {}, isWritten ? this.residency.dirtyPages : 0);
    meter.gauge("kvatlas_store_lag_seconds", {}, (this.#writeBehind?.lagMs ?? 0) / 1000);
  }

  #evicted(holder: Holder, blocks: number): void {
    const { log, meter } = this.#deps;
    meter.count("kvatlas_index_evicted_blocks_total", { endpoint: holder.endpointId }, blocks);
    if (this.residency.cursorOf(holder)?.reason === "index-full") return;
    log.warn({ holder: holderName(holder), blocks }, "the index is full: blocks are evicted");
  }

  /** Gives up restoring where it is under way; what was restored is not written again. */
  stopRestoring(): void {
    this.#isStopped = true;
  }

  async stop(): Promise<void> {
    this.stopRestoring();
    await this.restored;
    if (this.#writeBehind === null) await this.#opened?.store.close();
    else await this.#writeBehind.stop();
  }

  /** A store that cannot be opened or read costs the restart's warmth; the service goes on without. */
  async #open(path: string): Promise<void> {
    const store = new LmdbStoreThread();
    this.#detail = "opening";
    try {
      const { contents, aside } = await store.open(path, this.#config.keySeed);
      const restorer = new Restorer(contents, this.residency);
      this.#detail = `restoring ${contents.holders.length} holders`;
      this.#opened = { path, store, restorer, aside };
    } catch (error) {
      this.#unusable(path, error);
      await store.close();
    }
  }

  async #restore(): Promise<boolean> {
    if (this.#opened === null) return !this.#isStopped;
    const { path, store, restorer, aside } = this.#opened;
    try {
      // The next portion is read while one is taken.
      let reading = store.read(PORTION_BYTES);
      for (let portion = await reading; portion !== null; portion = await reading) {
        if (this.#isStopped) return false;
        reading = store.read(PORTION_BYTES);
        restorer.take(portion);
      }
      this.#restored(path, restorer.outcome, aside);
      const { residency } = this;
      const { flushMs } = this.#config;
      this.#writeBehind = new WriteBehind({ ...this.#deps, store, residency, flushMs });
    } catch (error) {
      restorer.abandon();
      this.#unusable(path, error);
    }
    return !this.#isStopped;
  }

  #restored(path: string, outcome: RestoreOutcome, aside: Aside | null): void {
    const { log, meter } = this.#deps;
    if (aside !== null) {
      const fields = { path, moved_to: aside.path, reason: aside.reason };
      log.error(fields, "index store was damaged: moved aside, begun anew");
    }
    const isDamaged = aside !== null || outcome.rowsRefused + outcome.holdersDamaged > 0;
    log[isDamaged ? "warn" : "info"]({ path, ...outcome }, "index restored from its store");
    meter.count("kvatlas_store_restores_total", { outcome: isDamaged ? "damaged" : "whole" });
    const restored = `${outcome.blocks} blocks of ${outcome.holders} holders restored`;
    this.#detail = [restored, ...foundIn(outcome, aside, isDamaged)].join(", ");
  }

  #unusable(path: string, error: unknown): void {
    const { log, meter } = this.#deps;
    const problem = error instanceof StoreError ? error.problem : "failed";
    meter.count("kvatlas_store_restores_total", { outcome: "failed" });
    meter.gauge("kvatlas_degraded", { component: "store" }, 1);
    meter.gauge("kvatlas_store_problem", { problem }, 1);
    this.#detail = `not usable (${problem}): ${messageOf(error)}`;
    log.error(
      { path, problem, error: messageOf(error) },
      "index store is not usable: serving from memory",
    );
  }
}

/** What was not as it should be in a store, for people. */
function foundIn(outcome: RestoreOutcome, aside: Aside | null, isDamaged: boolean): string[] {
  if (aside !== null) return [`begun anew: the former store (${aside.reason}) is in ${aside.path}`];
  if (outcome.isEmptied) return ["begun anew: the former store had another layout or key seed"];
  return isDamaged ? ["parts were damaged"] : [];
}
