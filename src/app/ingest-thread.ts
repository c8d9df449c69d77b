/**
 * The write path in a thread of its own, as the decisions see it: shared memory for the index, and
 * for the rest a board of what the thread has told. Nothing is asked of it on the way of a request.
 *
 * A thread that fails is a named state: component `ingest` is degraded, the index is empty and no
 * holder is heard, until another thread has taken its place from the store of record.
 */
import type { Config } from "../config/schema.ts";
import { type Clock, sleep } from "../core/clock.ts";
import type { Holder } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { EventSource } from "../events/ingest.ts";
import type { IndexReader } from "../indexer/block-index.ts";
import type { EvictionBoard } from "../indexer/eviction-board.ts";
import { TableReader } from "../indexer/table-reader.ts";
import { playTape } from "../observe/meter-tape.ts";
import { HolderBoard } from "./holder-board.ts";
import type { FromWriter } from "./ingest-messages.ts";
import { IngestWriter } from "./ingest-writer.ts";
import type { EventSide, KnownHolders, WriteDetail, WriteSide } from "./write-side.ts";

/** Failures in a row after which no other thread is begun. */
const CRASHES_MAX = 5;
/** A thread that ran for so long begins another row, ms. */
const STEADY_MS = 60_000;
/** Pause before another thread, doubled in a row, ms. */
const RESTART_MS = 250;
/** Wait of a read of /metrics for the thread, ms. */
const TELL_MS_MAX = 1000;
/** Wait for the thread's end: what is left goes to the store, ms. */
const STOP_MS_MAX = 60_000;
/** The same where nothing is written: sockets that are open when the process exits would abort it, ms. */
const ABANDON_MS_MAX = 5000;
/** The thread is asked this often; it is stalled while a whole interval brought no answer, ms. */
const ASK_MS = 5000;

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
  readonly #abort = new AbortController();
  #reader: IndexReader = NOTHING;
  #writer: IngestWriter | null = null;
  #sources: readonly EventSource[] | null = null;
  #detail: WriteDetail | null = null;
  /** Why the write path does not work; null: it does. */
  #trouble: string | null = "the write path begins";
  #crashes = 0;

  /** Resolves when the index is restored and can be read. */
  static async start(config: Config, deps: IngestThreadDeps): Promise<IngestThread> {
    const thread = new IngestThread(config, deps);
    await new Promise<void>((resolve) => thread.#begin(resolve));
    void thread.#watch();
    return thread;
  }

  private constructor(config: Config, deps: IngestThreadDeps) {
    this.#config = config;
    this.#deps = deps;
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
        this.#writer?.say({ kind: "reconcile", sources });
      },
      factsOf: (holder): ReturnType<EventSide["factsOf"]> => this.#board.factsOf(holder),
      // A thread that is away says nothing of the engines' silence.
      heardMsOf: (holder): number | null =>
        this.#trouble === null ? this.#board.heardMsOf(holder) : deps.clock.nowMs(),
      resync: (holder): boolean => this.#resync(holder),
    };
  }

  detail(): WriteDetail {
    const { store, events } = this.#detail ?? { store: "not open", events: "not read" };
    return this.#trouble === null
      ? { store, events }
      : { store, events: `DEGRADED: ${this.#trouble}; ${events}` };
  }

  async report(): Promise<void> {
    const { clock } = this.#deps;
    const told = new AbortController();
    void this.#writer?.tell().then(() => told.abort());
    if (this.#writer !== null) await sleep(clock, TELL_MS_MAX, told.signal);
  }

  async stop(): Promise<void> {
    await this.#end("stop", STOP_MS_MAX);
  }

  /** Ends the thread at once; what is not in the store is lost. */
  async abandon(): Promise<void> {
    await this.#end("abandon", ABANDON_MS_MAX);
  }

  async #end(how: "stop" | "abandon", waitMs: number): Promise<void> {
    this.#abort.abort();
    const ended = new AbortController();
    const writer = this.#writer;
    if (writer === null) return;
    void writer.end(how).then(() => ended.abort());
    await sleep(this.#deps.clock, waitMs, ended.signal);
  }

  #begin(onOpen: () => void): void {
    const { clock, evictions } = this.#deps;
    const beganMs = clock.nowMs();
    const data = { config: this.#config, evictions: evictions.memory };
    this.#writer = new IngestWriter(data, {
      onTold: (message): void => {
        this.#take(message);
        if (message.kind === "open") onOpen();
      },
      onEnd: (failure): void => {
        this.#writer = null;
        if (failure === null) return;
        if (!this.#abort.signal.aborted) void this.#recover(failure, { beganMs, onOpen });
        else this.#deps.log.error({ error: failure }, "write path failed at its end");
      },
    });
  }

  #take(message: Extract<FromWriter, { kind: "open" | "news" | "log" }>): void {
    const { log, meter } = this.#deps;
    switch (message.kind) {
      case "log":
        log[message.level](message.fields, message.message);
        return;
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
          this.#writer?.say({ kind: "reconcile", sources: this.#sources });
        }
    }
  }

  async #recover(
    failure: string,
    { beganMs, onOpen }: { readonly beganMs: number; readonly onOpen: () => void },
  ): Promise<void> {
    const { clock, log, meter } = this.#deps;
    this.#crashes = clock.nowMs() - beganMs >= STEADY_MS ? 1 : this.#crashes + 1;
    // Torn down in the middle of a change, its tables may say anything.
    this.#reader = NOTHING;
    this.#board.clear();
    meter.count("kvatlas_ingest_crashes_total");
    const isLast = this.#crashes >= CRASHES_MAX;
    this.#setTrouble(isLast ? "the write path failed too often" : "the write path failed");
    log.error({ error: failure, crashes: this.#crashes }, "write path failed");
    if (isLast) {
      log.error({}, "write path is not begun again: requests are routed by load");
      onOpen();
      return;
    }
    await sleep(clock, RESTART_MS * 2 ** (this.#crashes - 1), this.#abort.signal);
    if (!this.#abort.signal.aborted) this.#begin(onOpen);
  }

  /** False where no socket is here, and no relay can be asked. */
  #resync(holder: Holder): boolean {
    const { transport, relay } = this.#config.events;
    const isRelayAsked = transport === "nats" && relay === "separate";
    if (!isRelayAsked && this.#board.factsOf(holder) === null) return false;
    this.#writer?.say({ kind: "resync", holder });
    return true;
  }

  /** Notices a thread that runs and does not answer. */
  async #watch(): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const writer = this.#writer;
      let isAnswered = writer === null;
      void writer?.tell().then(() => {
        isAnswered = true;
        if (this.#trouble === STALLED && writer === this.#writer) this.#setTrouble(null);
      });
      await sleep(clock, ASK_MS, signal);
      if (isAnswered || signal.aborted || this.#trouble !== null) continue;
      log.error({ asked_ms: ASK_MS }, "write path does not answer");
      this.#setTrouble(STALLED);
    }
  }

  #setTrouble(trouble: string | null): void {
    this.#trouble = trouble;
    const component = "ingest";
    this.#deps.meter.gauge("kvatlas_degraded", { component }, trouble === null ? 0 : 1);
  }
}

const STALLED = "the write path does not answer";

const NOTHING: IndexReader = {
  match: () => [],
  prefix: () => ({ matches: [], reachable: [], sharedBlocks: 0, availableBlocks: 0 }),
  residency: () => [],
  stats: () => ({ blocks: 0, entriesByTier: { gpu: 0, cpu: 0, nvme: 0, shared: 0 } }),
};
