/**
 * The thread of the write path: engines' events in, the shared index and its store written.
 *
 * What fails here ends the thread in order: sockets first, because an addon with a pending read that
 * is torn down with its thread ends the process.
 */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { assert } from "../core/assert.ts";
import type { Holder } from "../core/ids.ts";
import { nodeClock } from "../core/node-clock.ts";
import { EvictionBoard } from "../indexer/eviction-board.ts";
import { TapeMeter } from "../observe/meter-tape.ts";
import { HolderScan } from "./holder-news.ts";
import type { FromWriter, ToWriter, WriterData } from "./ingest-messages.ts";
import { endWhenFailing } from "./thread-failing.ts";
import type { FromThread } from "./thread-life.ts";
import { threadLog } from "./thread-log.ts";
import { WriteCore } from "./write-core.ts";

/** What is told is at most so old, ms. */
const TICK_MS = 50;
/** A closed socket's monitor hears of its end from another thread, ms. */
const MONITOR_MS = 100;

class Writer {
  readonly #core: WriteCore;
  readonly #port: MessagePort;
  readonly #meter: TapeMeter;
  readonly #scan: HolderScan;
  #followed: readonly Holder[] = [];
  #detailText = "";
  #isEnding = false;
  #cancel: () => void = () => {};

  constructor(core: WriteCore, { port, meter }: { port: MessagePort; meter: TapeMeter }) {
    this.#core = core;
    this.#port = port;
    this.#meter = meter;
    this.#scan = new HolderScan(core);
    port.on("message", (message: ToWriter) => void this.#take(message));
    this.#say({ kind: "open", index: core.index.share() });
    this.#tick();
  }

  /** Ends reading, and leaves the store as it is: what is in memory may be half of a change. */
  async abandon(): Promise<void> {
    this.#isEnding = true;
    this.#cancel();
    await this.#core.abandon();
    await new Promise<void>((resolve) => nodeClock.after(MONITOR_MS, resolve));
  }

  async #take(message: ToWriter): Promise<void> {
    // Nothing may be opened any more.
    if (this.#isEnding) return;
    switch (message.kind) {
      case "reconcile":
        this.#followed = message.sources.map(({ holder }) => holder);
        this.#core.events.reconcile(message.sources);
        return;
      case "resync":
        this.#core.events.resync(message.holder);
        return;
      case "tell":
        await this.#core.report();
        this.#tell();
        this.#say({ kind: "told", id: message.id });
        return;
      case "stop":
        this.#isEnding = true;
        this.#cancel();
        await this.#core.stop();
        this.#tell();
        this.#port.close();
        return;
      case "abandon":
        await this.abandon();
        process.exit(0);
    }
  }

  #tick(): void {
    this.#tell();
    this.#cancel = nodeClock.after(TICK_MS, () => this.#tick());
  }

  #tell(): void {
    const holders = this.#scan.look(this.#followed);
    const meter = this.#meter.take();
    const detail = this.#core.detail();
    const detailText = JSON.stringify(detail);
    const isQuiet =
      holders.changed.length + holders.gone.length + holders.counts.length === 0 &&
      meter === null &&
      detailText === this.#detailText;
    if (isQuiet) return;
    this.#detailText = detailText;
    this.#say({ kind: "news", holders, meter, detail });
  }

  #say(message: FromWriter | FromThread): void {
    this.#port.postMessage(message);
  }
}

async function run(port: MessagePort, { config, evictions }: WriterData): Promise<void> {
  let writer: Writer | null = null;
  endWhenFailing(port, async () => await writer?.abandon());
  const meter = new TapeMeter();
  const log = threadLog(port, config.observe.logLevel);
  const ports = { clock: nodeClock, log, meter, evictions: new EvictionBoard(evictions) };
  writer = new Writer(await WriteCore.start(config, ports), { port, meter });
}

assert(parentPort !== null, "ingest-worker.ts is the code of a thread");
// What rejects here is uncaught, and handled as such.
void run(parentPort, workerData);
