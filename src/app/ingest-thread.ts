/**
 * The write path in a thread of its own, as the decisions see it: shared memory for the index, and
 * for the rest a board of what the thread has told. Nothing is asked of it on the way of a request.
 *
 * A thread that fails is a named state: component `ingest` is degraded, the index is empty and no
 * holder is heard, until another thread has taken its place from the store of record.
 */
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/clock.ts";
import type { Holder } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { EventSource } from "../events/ingest.ts";
import type { IndexReader } from "../indexer/block-index.ts";
import type { EvictionBoard } from "../indexer/eviction-board.ts";
import { TableReader } from "../indexer/table-reader.ts";
import { playTape } from "../observe/meter-tape.ts";
import { HolderBoard } from "./holder-board.ts";
import type { FromWriter, ToWriter, WriterData } from "./ingest-messages.ts";
import { KeptThread, type ThreadFailure } from "./kept-thread.ts";
import type { EventSide, KnownHolders, WriteDetail, WriteSide } from "./write-side.ts";

/** Wait of a read of /metrics for the thread, ms. */
const TELL_MS_MAX = 1000;
/** Wait for the thread's end: what is left goes to the store, ms. */
const STOP_MS_MAX = 60_000;
/** The same where nothing is written: sockets that are open when the process exits would abort it, ms. */
const ABANDON_MS_MAX = 5000;
/** Code of the thread, without its ending. */
const CODE = new URL("./ingest-worker", import.meta.url);

export interface IngestThreadDeps {
  readonly evictions: EvictionBoard;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class IngestThread implements WriteSide {
  readonly index: IndexReader;
  readonly holders: KnownHolders;
  readonly events: EventSide;
  readonly #config: Config;
  readonly #deps: IngestThreadDeps;
  readonly #board = new HolderBoard();
  readonly #thread: KeptThread<ToWriter, FromWriter>;
  readonly #onOpen: () => void;
  #reader: IndexReader = NOTHING;
  #sources: readonly EventSource[] | null = null;
  #detail: WriteDetail | null = null;
  /** Why the write path does not work; null: it does. */
  #trouble: string | null = "the write path begins";

  /** Resolves when the index is restored and can be read. */
  static start(config: Config, deps: IngestThreadDeps): Promise<IngestThread> {
    return new Promise((resolve) => {
      const thread: IngestThread = new IngestThread(config, deps, () => resolve(thread));
    });
  }

  private constructor(config: Config, deps: IngestThreadDeps, onOpen: () => void) {
    this.#config = config;
    this.#deps = deps;
    this.#onOpen = onOpen;
    this.holders = this.#board;
    this.index = {
      match: (keys): ReturnType<IndexReader["match"]> => this.#reader.match(keys),
      prefix: (keys): ReturnType<IndexReader["prefix"]> => this.#reader.prefix(keys),
      residency: (key): ReturnType<IndexReader["residency"]> => this.#reader.residency(key),
      stats: (): ReturnType<IndexReader["stats"]> => this.#reader.stats(),
    };
    this.events = {
      reconcile: (sources): void => {
        this.#sources = sources;
        this.#thread.say({ kind: "reconcile", sources });
      },
      factsOf: (holder): ReturnType<EventSide["factsOf"]> => this.#board.factsOf(holder),
      // A thread that is away says nothing of the engines' silence.
      heardMsOf: (holder): number | null =>
        this.#trouble === null ? this.#board.heardMsOf(holder) : deps.clock.nowMs(),
      resync: (holder): boolean => this.#resync(holder),
    };
    const data: WriterData = { config, evictions: deps.evictions.memory };
    this.#thread = new KeptThread({
      ...{ ...deps, code: CODE, question, data: (): WriterData => data },
      onTold: (message): void => this.#take(message),
      onFailed: (failure): void => this.#failed(failure),
      onAnswering: (isAnswering): void => this.#answers(isAnswering),
    });
  }

  detail(): WriteDetail {
    const { store, events } = this.#detail ?? { store: "not open", events: "not read" };
    return this.#trouble === null
      ? { store, events }
      : { store, events: `DEGRADED: ${this.#trouble}; ${events}` };
  }

  async report(): Promise<void> {
    await this.#thread.ask(question, TELL_MS_MAX);
  }

  async stop(): Promise<void> {
    await this.#thread.end({ kind: "stop" }, STOP_MS_MAX);
  }

  /** Ends the thread at once; what is not in the store is lost. */
  async abandon(): Promise<void> {
    await this.#thread.end({ kind: "abandon" }, ABANDON_MS_MAX);
  }

  #take(message: FromWriter): void {
    const { meter } = this.#deps;
    switch (message.kind) {
      case "news":
        this.#board.take(message.holders);
        if (message.meter !== null) playTape(message.meter, meter);
        this.#detail = message.detail;
        return;
      case "open":
        this.#reader = new TableReader(message.index, () =>
          meter.count("kvatlas_index_reads_abandoned_total"),
        );
        this.#setTrouble(null);
        if (this.#sources !== null) {
          this.#thread.say({ kind: "reconcile", sources: this.#sources });
        }
        this.#onOpen();
    }
  }

  #failed({ error, crashes, isLast }: ThreadFailure): void {
    const { log, meter } = this.#deps;
    // Torn down in the middle of a change, its tables may say anything.
    this.#reader = NOTHING;
    this.#board.clear();
    meter.count("kvatlas_ingest_crashes_total");
    this.#setTrouble(isLast ? "the write path failed too often" : "the write path failed");
    log.error({ error, crashes }, "write path failed");
    if (!isLast) return;
    log.error({}, "write path is not begun again: requests are routed by load");
    this.#onOpen();
  }

  /** False where no socket is here, and no relay can be asked. */
  #resync(holder: Holder): boolean {
    const { transport, relay } = this.#config.events;
    const isRelayAsked = transport === "nats" && relay === "separate";
    if (!isRelayAsked && this.#board.factsOf(holder) === null) return false;
    this.#thread.say({ kind: "resync", holder });
    return true;
  }

  #answers(isAnswering: boolean): void {
    if (isAnswering && this.#trouble === STALLED) this.#setTrouble(null);
    if (isAnswering || this.#trouble !== null) return;
    this.#deps.log.error({}, "write path does not answer");
    this.#setTrouble(STALLED);
  }

  #setTrouble(trouble: string | null): void {
    this.#trouble = trouble;
    const component = "ingest";
    this.#deps.meter.gauge("kvatlas_degraded", { component }, trouble === null ? 0 : 1);
  }
}

const question = (id: number): ToWriter => ({ kind: "tell", id });

const STALLED = "the write path does not answer";

const NOTHING: IndexReader = {
  match: () => [],
  prefix: () => ({ matches: [], reachable: [], sharedBlocks: 0, availableBlocks: 0 }),
  residency: () => [],
  stats: () => ({ blocks: 0, entriesByTier: { gpu: 0, cpu: 0, nvme: 0, shared: 0 } }),
};
