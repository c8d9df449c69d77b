/** The write path whole: engines' events in, index and store kept; all in the thread that calls. */
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { EvictionBoard } from "../indexer/eviction-board.ts";
import type { HotIndex } from "../indexer/hot-index.ts";
import type { Residency } from "../indexer/residency.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { IndexCore } from "./index-core.ts";
import { LateEvents } from "./late-events.ts";
import { startWritePath, type WritePath } from "./write-path.ts";
import type { WriteDetail, WriteSide } from "./write-side.ts";

export interface WriteCoreDeps {
  readonly evictions: EvictionBoard;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class WriteCore implements WriteSide {
  readonly index: HotIndex;
  readonly holders: Residency;
  readonly events: LateEvents;
  readonly #core: IndexCore;

  private constructor(core: IndexCore, events: LateEvents) {
    this.index = core.index;
    this.holders = core.residency;
    this.events = events;
    this.#core = core;
  }

  /**
   * Opens the store and begins to restore the index. Events are followed once that is done, and
   * `events.reconcile` has said whose.
   */
  static async start(config: Config, deps: WriteCoreDeps): Promise<WriteCore> {
    const hasher = await createBlockHasher(config.index.keySeed, deps.log);
    const core = new IndexCore(config.index, deps);
    await core.opened;
    const { residency } = core;
    const start = (): WritePath => startWritePath(config, { ...deps, residency, hasher });
    return new WriteCore(core, new LateEvents(core.restored, start));
  }

  detail(): WriteDetail {
    return { store: this.#core.storeDetail, events: this.events.detail };
  }

  report(): Promise<void> {
    this.#core.report();
    return Promise.resolve();
  }

  /** Ends the reading of events and nothing else: what is in memory may be half of a change. */
  async abandon(): Promise<void> {
    this.#core.stopRestoring();
    await this.events.stop();
  }

  async stop(): Promise<void> {
    this.#core.stopRestoring();
    await this.events.stop();
    await this.#core.stop();
  }
}
