/** The index with its store of record: opened, restored, and kept close behind. */
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { BlockIndex, IndexReader } from "../indexer/block-index.ts";
import type { IndexerConfig } from "../indexer/config.ts";
import type { EvictionBoard } from "../indexer/eviction-board.ts";
import { EvictionWatch } from "../indexer/eviction-watch.ts";
import { beginOpening, endOpening } from "../indexer/file-store-guard.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { LmdbStore } from "../indexer/lmdb-store.ts";
import { Residency } from "../indexer/residency.ts";
import { TIERS } from "../tiers/tier.ts";
import { Unwritten } from "./unwritten.ts";
import { WriteBehind } from "./write-behind.ts";

export interface IndexCoreDeps {
  /** Told of every removal. */
  readonly evictions: EvictionBoard;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class IndexCore {
  readonly index: IndexReader;
  readonly residency: Residency;
  readonly #meter: Meter;
  readonly #writeBehind: WriteBehind | Unwritten;
  readonly #hasStore: boolean;
  /** For people: where the index is kept. */
  readonly storeDetail: string;

  constructor(config: IndexerConfig, deps: IndexCoreDeps) {
    this.#meter = deps.meter;
    const opened = openIndex(config, deps);
    this.index = opened.index;
    this.residency = opened.residency;
    this.storeDetail = opened.detail;
    const { store, residency } = opened;
    const { flushMs } = config;
    this.#hasStore = store !== null;
    this.#writeBehind =
      store === null
        ? new Unwritten(residency, deps.clock)
        : new WriteBehind({ ...deps, store, residency, flushMs });
  }

  /** Sets the gauges of the index; called before metrics are read. */
  report(): void {
    const { blocks, entriesByTier } = this.index.stats();
    this.#meter.gauge("kvatlas_index_blocks", {}, blocks);
    for (const tier of TIERS) {
      this.#meter.gauge("kvatlas_index_entries", { tier }, entriesByTier[tier]);
    }
    this.#meter.gauge(
      "kvatlas_store_dirty_rows",
      {},
      this.#hasStore ? this.residency.dirtyRows : 0,
    );
  }

  async stop(): Promise<void> {
    await this.#writeBehind.stop();
  }
}

interface OpenedIndex {
  readonly index: BlockIndex;
  readonly residency: Residency;
  readonly store: LmdbStore | null;
  readonly detail: string;
}

/** A store that cannot be opened or read costs the restart's warmth; the service goes on without. */
function openIndex(config: IndexerConfig, { log, meter, evictions }: IndexCoreDeps): OpenedIndex {
  const { path, keySeed, entriesMax } = config;
  if (path === null) return emptyIndex(entriesMax, evictions, "in memory only, as configured");
  let store: LmdbStore | null = null;
  try {
    const asidePath = beginOpening(path);
    if (asidePath !== null) {
      log.error({ path, moved_to: asidePath }, "index store was damaged: moved aside, begun anew");
    }
    store = new LmdbStore(path, keySeed);
    const opened = emptyIndex(entriesMax, evictions, "");
    const outcome = store.restore(opened.residency);
    endOpening(path);
    const isDamaged = asidePath !== null || outcome.rowsRefused + outcome.holdersDamaged > 0;
    log[isDamaged ? "warn" : "info"]({ path, ...outcome }, "index restored from its store");
    meter.count("kvatlas_store_restores_total", { outcome: isDamaged ? "damaged" : "whole" });
    meter.gauge("kvatlas_degraded", { component: "store" }, 0);
    const damage = isDamaged ? ", parts were damaged" : "";
    const detail = `${outcome.rows} rows of ${outcome.holders} holders restored${damage}`;
    return { ...opened, store, detail };
  } catch (error) {
    store?.close().catch(() => {});
    meter.count("kvatlas_store_restores_total", { outcome: "failed" });
    meter.gauge("kvatlas_degraded", { component: "store" }, 1);
    const detail = messageOf(error);
    log.error({ path, error: detail }, "index store is not usable: serving from memory");
    return emptyIndex(entriesMax, evictions, `not usable: ${detail}`);
  }
}

function emptyIndex(entriesMax: number, evictions: EvictionBoard, detail: string): OpenedIndex {
  const index = new HotIndex();
  const residency = new Residency({ index: new EvictionWatch(index, evictions), entriesMax });
  return { index, residency, store: null, detail };
}
