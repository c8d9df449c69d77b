/** The write path whole: engines' events in, index and store kept; all in the thread that calls. */
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { IndexReader } from "../indexer/block-index.ts";
import type { EvictionBoard } from "../indexer/eviction-board.ts";
import type { Residency } from "../indexer/residency.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { IndexCore } from "./index-core.ts";
import { startWritePath, type WritePath } from "./write-path.ts";
import type { EventSide, WriteDetail, WriteSide } from "./write-side.ts";

export interface WriteCoreDeps {
  readonly evictions: EvictionBoard;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class WriteCore implements WriteSide {
  readonly index: IndexReader;
  readonly holders: Residency;
  readonly events: EventSide;
  readonly #core: IndexCore;
  readonly #path: WritePath;

  private constructor(core: IndexCore, path: WritePath) {
    this.index = core.index;
    this.holders = core.residency;
    this.events = path.ingest;
    this.#core = core;
    this.#path = path;
  }

  /** Opens the store and restores the index; events are followed from `events.reconcile` on. */
  static async start(config: Config, deps: WriteCoreDeps): Promise<WriteCore> {
    const hasher = await createBlockHasher(config.index.keySeed, deps.log);
    const core = new IndexCore(config.index, deps);
    const { residency } = core;
    return new WriteCore(core, startWritePath(config, { ...deps, residency, hasher }));
  }

  detail(): WriteDetail {
    return { store: this.#core.storeDetail, events: this.#path.detail() };
  }

  report(): Promise<void> {
    this.#core.report();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    await this.#path.stop();
    await this.#core.stop();
  }
}
