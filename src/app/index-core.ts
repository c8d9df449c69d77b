/** The index with its store of record: opened, restored, and kept close behind. */
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { IndexerConfig } from "../indexer/config.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { LmdbStore } from "../indexer/lmdb-store.ts";
import { Residency } from "../indexer/residency.ts";
import { TIERS } from "../tiers/tier.ts";
import { WriteBehind } from "./write-behind.ts";

export interface IndexCoreDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class IndexCore {
  readonly index = new HotIndex();
  readonly residency: Residency;
  readonly #meter: Meter;
  readonly #writeBehind: WriteBehind | null;
  /** For people: where the index is kept. */
  readonly storeDetail: string;

  constructor(config: IndexerConfig, deps: IndexCoreDeps) {
    this.#meter = deps.meter;
    this.residency = new Residency({ index: this.index, entriesMax: config.entriesMax });
    const store = openStore(config, this.residency, deps);
    this.storeDetail = store.detail;
    this.#writeBehind =
      store.store === null
        ? null
        : new WriteBehind({
            ...deps,
            store: store.store,
            residency: this.residency,
            flushMs: config.flushMs,
          });
  }

  /** Sets the gauges of the index; called before metrics are read. */
  report(): void {
    const { blocks, entriesByTier } = this.index.stats();
    this.#meter.gauge("kvatlas_index_blocks", {}, blocks);
    for (const tier of TIERS) {
      this.#meter.gauge("kvatlas_index_entries", { tier }, entriesByTier[tier]);
    }
    this.#meter.gauge("kvatlas_store_dirty_rows", {}, this.#writeBehind?.rowsPending ?? 0);
    this.#meter.resetGauge("kvatlas_holder_state");
    for (const holder of this.residency.holders()) {
      const cursor = this.residency.cursorOf(holder);
      if (cursor === null) continue;
      const labels = {
        endpoint: holder.endpointId,
        rank: String(holder.rank),
        state: cursor.state,
        reason: cursor.reason ?? "",
      };
      this.#meter.gauge("kvatlas_holder_state", labels, 1);
    }
  }

  async stop(): Promise<void> {
    await this.#writeBehind?.stop();
  }
}

/** A store that cannot be opened or read costs the restart's warmth, not the service. */
function openStore(
  { path, keySeed }: IndexerConfig,
  residency: Residency,
  { log, meter }: IndexCoreDeps,
): { store: LmdbStore | null; detail: string } {
  if (path === null) return { store: null, detail: "in memory only, as configured" };
  try {
    const store = new LmdbStore(path, keySeed);
    const outcome = store.restore(residency);
    log.info({ path, ...outcome }, "index restored from its store");
    meter.gauge("kvatlas_degraded", { component: "store" }, 0);
    return { store, detail: `${outcome.rows} rows of ${outcome.holders} holders restored` };
  } catch (error) {
    meter.gauge("kvatlas_degraded", { component: "store" }, 1);
    const detail = messageOf(error);
    log.error({ path, error: detail }, "index store is not usable: serving from memory");
    return { store: null, detail: `not usable: ${detail}` };
  }
}
