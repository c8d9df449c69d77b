/**
 * The fleet's event log on NATS JetStream: keyed batches out to a subject per endpoint, and back in
 * order. NATS is taken to be lossy: what is lost, repeated or late shows in the engines' own
 * sequence numbers, which every batch carries.
 */
import { type JetStreamManager, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Residency } from "../indexer/residency.ts";
import type { EventsConfig } from "./config.ts";
import type { KeyedBatch, KeyedSink } from "./keyed-batch.ts";
import { askForGaps, type HolderAsk, hearAsks, publishAsk } from "./nats-asks.ts";
import { type ConsumeDeps, consumeNatsLog } from "./nats-consumer.ts";
import { isStreamGone, placeOf, type StreamPlace, streamReplaced } from "./nats-place.ts";
import { NatsPublisher } from "./nats-publisher.ts";
import { NatsSnapshots } from "./nats-snapshots.ts";
import { ensureStream, eventSubject, poolSubjects } from "./nats-stream.ts";

/** Pause before the next attempt to reach a server, ms: doubled from the first to the last. */
const CONNECT_RETRY_MS = 500;
const CONNECT_RETRY_MS_MAX = 15_000;
/** Wait for an answer of the server: one that was lost with its connection never comes. */
const REQUEST_MS_MAX = 2000;
/** Time for the last snapshot of a router that stops. */
const LAST_SNAPSHOT_MS = 5000;

export interface NatsLogDeps {
  readonly config: EventsConfig["nats"];
  readonly pool: string;
  readonly keySeed: number;
  /** Its log cursor says where to go on; the consumer moves it. */
  readonly residency: Residency;
  /** Gets every batch that is read, this process's own included. */
  readonly onBatch: (batch: KeyedBatch) => void;
  /** The residency has been given what a snapshot says. */
  readonly onRestored: () => void;
  /** Messages of the log were gone before they were read. */
  readonly onTruncated: (endpoint: EndpointId | null) => void;
  /** A reader lacks something that an engine can tell again. Null: no engine's sockets are here. */
  readonly onAsk: ((ask: HolderAsk) => void) | null;
  /** A relay's endpoints: of these alone the tail is read, once. Null: a router, which reads on. */
  readonly tailOf: (() => readonly EndpointId[]) | null;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

/** How the log's tail was caught up with. */
export interface Bootstrap {
  readonly source: "log" | "snapshot";
  /** Rows taken from a snapshot. */
  readonly rows: number;
  readonly seconds: number;
}

export class NatsLog implements KeyedSink {
  readonly #deps: NatsLogDeps;
  readonly #publisher: NatsPublisher;
  readonly #abort = new AbortController();
  readonly #task: Promise<void>;
  #connection: NatsConnection | null = null;
  #snapshots: NatsSnapshots | null = null;
  /** Creation time of the stream as it was last seen. */
  #streamCreated: string | null = null;
  #isConnected = false;
  #reconnect = new AbortController();
  #startMs: number | null = null;
  #snapshotRows: number | null = null;
  #bootstrap: Bootstrap | null = null;
  #markCaughtUp = (): void => {};
  /** Resolves once the log's tail, as it was at the first connection, has been handed over. */
  readonly caughtUp: Promise<void>;

  constructor(deps: NatsLogDeps) {
    this.#deps = deps;
    const { pool, clock, log, meter } = deps;
    this.#publisher = new NatsPublisher({ pool, clock, log, meter, signal: this.#abort.signal });
    this.caughtUp = new Promise((resolve) => {
      this.#markCaughtUp = resolve;
    });
    this.#task = this.#run();
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** Null until the tail is handed over. */
  get bootstrap(): Bootstrap | null {
    return this.#bootstrap;
  }

  accept(batch: KeyedBatch): boolean {
    return this.#publisher.accept(batch);
  }

  /** Asks the relays, of which this process may be one; while NATS is away nobody hears it. */
  ask(ask: HolderAsk): void {
    if (!this.#isConnected || this.#connection === null) return;
    publishAsk(this.#connection, this.#deps.pool, ask);
  }

  async stop(): Promise<void> {
    await this.#writeLastSnapshot();
    this.#abort.abort();
    // Frees a relay that still waits for the tail.
    this.#markCaughtUp();
    await this.#connection?.close();
    await this.#task;
    await this.#publisher.stopped();
  }

  async #run(): Promise<void> {
    const { clock, log, meter, config } = this.#deps;
    const signal = this.#abort.signal;
    let retryMs = CONNECT_RETRY_MS;
    while (!signal.aborted) {
      try {
        // Reconnects for ever by itself, except where the server refuses it for good.
        const connection = await connect({
          servers: [...config.servers],
          maxReconnectAttempts: -1,
          reconnectTimeWait: 250,
          name: "kvatlas",
        });
        this.#connection = connection;
        await this.#serve(connection, () => {
          retryMs = CONNECT_RETRY_MS;
        }).finally(() => connection.close());
        if (!signal.aborted) throw new Error("the server closed the connection");
      } catch (error) {
        if (signal.aborted) break;
        meter.count("kvatlas_nats_errors_total", { operation: "connect" });
        log.warn({ error: messageOf(error), servers: config.servers }, "NATS is not usable");
      }
      this.#setConnected(false);
      await sleep(clock, retryMs, signal);
      retryMs = Math.min(CONNECT_RETRY_MS_MAX, retryMs * 2);
    }
  }

  /** Resolves when the connection is closed for good, by either side. */
  async #serve(connection: NatsConnection, onUsable: () => void): Promise<void> {
    const { tailOf, onAsk } = this.#deps;
    const closed = new AbortController();
    void connection.closed().then(() => closed.abort());
    const signal = AbortSignal.any([this.#abort.signal, closed.signal]);
    const manager = await jetstreamManager(connection, { timeout: REQUEST_MS_MAX });
    const payloadBytesMax = (): number => connection.info?.max_payload ?? Number.POSITIVE_INFINITY;
    this.#snapshots = new NatsSnapshots(manager, {
      ...this.#deps,
      messageBytesMax: (): number => this.#publisher.messageBytesMax,
    });
    await this.#renew(manager, { isReplaced: false });
    onUsable();
    this.#setConnected(true);
    this.#startMs ??= this.#deps.clock.nowMs();
    const status = this.#watchStatus(connection);
    this.#publisher.use(jetstream(connection), payloadBytesMax);
    const hearing = onAsk === null ? null : hearAsks(connection, { ...this.#deps, onAsk });
    const asking = tailOf === null ? this.#askForGaps(signal) : null;
    const writing = tailOf === null ? this.#writeSnapshots(this.#snapshots, signal) : null;
    if (tailOf === null || this.#bootstrap === null) await this.#consume(manager, signal);
    // A relay that has its tail still keeps the stream standing.
    await this.#watchStream(manager, signal);
    await connection.close();
    await Promise.all([status, hearing, asking, writing]);
  }

  #consume(manager: JetStreamManager, signal: AbortSignal): Promise<void> {
    const { config, pool, tailOf } = this.#deps;
    const subjects = tailOf?.().map((endpoint) => eventSubject(pool, endpoint));
    const deps: ConsumeDeps = {
      ...this.#deps,
      stream: config.stream,
      subjects: subjects ?? [poolSubjects(pool)],
      isTailOnly: tailOf !== null,
      onCaughtUp: () => this.#caughtUp(),
      bootstrap: () => this.#loadSnapshot(),
      renew: (options) => this.#renew(manager, options),
      reconnected: () => this.#reconnect.signal,
      signal,
    };
    if (subjects?.length !== 0) return consumeNatsLog(manager, deps);
    this.#caughtUp();
    return Promise.resolve();
  }

  /** What is missing before the tail is read may be in it. */
  #askForGaps(signal: AbortSignal): Promise<void> {
    const ask = (ask: HolderAsk): void => {
      if (this.#bootstrap !== null) this.ask(ask);
    };
    return askForGaps({ ...this.#deps, ask, signal });
  }

  async #watchStream(manager: JetStreamManager, signal: AbortSignal): Promise<void> {
    const { config, clock } = this.#deps;
    const { stream } = config;
    while (!signal.aborted) {
      try {
        const place = await placeOf(manager, stream);
        const look = (): Promise<StreamPlace> => placeOf(manager, stream);
        const watch = { look, place, seqSeen: (): number => 0, clock, signal };
        if (await streamReplaced(watch)) await this.#renew(manager, { isReplaced: true });
      } catch (error) {
        if (signal.aborted) return;
        if (isStreamGone(error)) await this.#renew(manager, { isReplaced: true }).catch(() => {});
        await sleep(clock, CONNECT_RETRY_MS, signal);
      }
    }
  }

  /** Makes the stream where it is gone. What another one had and readers may lack is sent again. */
  async #renew(
    manager: JetStreamManager,
    { isReplaced }: { readonly isReplaced: boolean },
  ): Promise<void> {
    const { config, pool } = this.#deps;
    const before = await placeOf(manager, config.stream).catch((error) => {
      if (isStreamGone(error)) return null;
      throw error;
    });
    const isKnown = this.#streamCreated !== null;
    // Queued before the stream stands again, so that nothing new is stored ahead of it.
    if (isReplaced || (isKnown && before?.created !== this.#streamCreated)) {
      this.#publisher.sendAgain();
    }
    await ensureStream(manager, { config, pool });
    this.#streamCreated = (await placeOf(manager, config.stream)).created;
  }

  async #loadSnapshot(): Promise<void> {
    const { tailOf, log, onRestored } = this.#deps;
    const loaded = await this.#snapshots?.load(tailOf?.() ?? null);
    if (loaded === undefined || loaded.outcome === "absent") return;
    log.info(loaded, "snapshot looked at");
    // Holders that were taken over stay so, also from a snapshot with parts missing.
    if (loaded.rows === 0 && loaded.outcome !== "restored") return;
    if (this.#bootstrap === null) this.#snapshotRows = (this.#snapshotRows ?? 0) + loaded.rows;
    onRestored();
  }

  #caughtUp(): void {
    if (this.#bootstrap !== null) return;
    const { clock, log, meter } = this.#deps;
    const seconds = (clock.nowMs() - (this.#startMs ?? clock.nowMs())) / 1000;
    const source = this.#snapshotRows === null ? "log" : "snapshot";
    this.#bootstrap = { source, rows: this.#snapshotRows ?? 0, seconds };
    meter.gauge("kvatlas_bootstrap_seconds", { source }, seconds);
    log.info({ ...this.#bootstrap }, "caught up with the event log");
    this.#markCaughtUp();
  }

  async #writeSnapshots(snapshots: NatsSnapshots, signal: AbortSignal): Promise<void> {
    const { config, clock } = this.#deps;
    while (config.snapshotSeconds !== null && !signal.aborted) {
      await sleep(clock, config.snapshotSeconds * 1000, signal);
      const isReady = this.#isConnected && this.#bootstrap !== null;
      if (isReady && !signal.aborted) await snapshots.write({ isLast: false, signal });
    }
  }

  async #writeLastSnapshot(): Promise<void> {
    const { tailOf, config, clock } = this.#deps;
    if (tailOf !== null || config.snapshotSeconds === null) return;
    if (!this.#isConnected || this.#bootstrap === null) return;
    const late = new AbortController();
    const timer = new AbortController();
    const write = this.#snapshots?.write({ isLast: true, signal: late.signal });
    await Promise.race([write, sleep(clock, LAST_SNAPSHOT_MS, timer.signal)]);
    late.abort();
    timer.abort();
  }

  async #watchStatus(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === "disconnect") this.#setConnected(false);
      if (status.type !== "reconnect") continue;
      this.#setConnected(true);
      this.#reconnect.abort();
      this.#reconnect = new AbortController();
    }
  }

  #setConnected(isConnected: boolean): void {
    if (isConnected !== this.#isConnected) {
      const { log } = this.#deps;
      if (isConnected) log.info({}, "NATS connected");
      else log.warn({}, "NATS disconnected: the index falls behind until it is back");
    }
    this.#isConnected = isConnected;
    this.#deps.meter.gauge("kvatlas_nats_connected", {}, isConnected ? 1 : 0);
    this.#deps.meter.gauge("kvatlas_degraded", { component: "nats" }, isConnected ? 0 : 1);
  }
}
