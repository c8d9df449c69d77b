/**
 * The fleet's event log on NATS JetStream: keyed batches out to a subject per endpoint, and back in
 * order. NATS is taken to be lossy: what is lost, repeated or late shows in the engines' own
 * sequence numbers, which every batch carries.
 */
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Residency } from "../indexer/residency.ts";
import type { EventsConfig } from "./config.ts";
import type { KeyedBatch, KeyedSink } from "./keyed-batch.ts";
import { consumeNatsLog } from "./nats-consumer.ts";
import { NatsPublisher } from "./nats-publisher.ts";
import { ensureStream, poolSubjects } from "./nats-stream.ts";

/** Pause before the next attempt to reach a server that was not there, ms. */
const CONNECT_RETRY_MS = 500;

export interface NatsLogDeps {
  readonly config: EventsConfig["nats"];
  readonly pool: string;
  /** Its log cursor says where to go on; the consumer moves it. */
  readonly residency: Residency;
  /** Gets every batch of the log, this process's own included. */
  readonly onBatch: (batch: KeyedBatch) => void;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class NatsLog implements KeyedSink {
  readonly #deps: NatsLogDeps;
  readonly #publisher: NatsPublisher;
  readonly #abort = new AbortController();
  readonly #task: Promise<void>;
  #connection: NatsConnection | null = null;
  #isConnected = false;
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

  accept(batch: KeyedBatch): boolean {
    return this.#publisher.accept(batch);
  }

  async stop(): Promise<void> {
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
    while (!signal.aborted) {
      try {
        // Reconnects for ever by itself; only the first connection is tried again here.
        const connection = await connect({
          servers: [...config.servers],
          maxReconnectAttempts: -1,
          reconnectTimeWait: 250,
          name: "kvatlas",
        });
        this.#connection = connection;
        await this.#serve(connection).finally(() => connection.close());
      } catch (error) {
        if (signal.aborted) break;
        meter.count("kvatlas_nats_errors_total", { operation: "connect" });
        log.warn({ error: messageOf(error), servers: config.servers }, "NATS is not usable");
      }
      this.#setConnected(false);
      await sleep(clock, CONNECT_RETRY_MS, signal);
    }
  }

  async #serve(connection: NatsConnection): Promise<void> {
    const { config, pool, residency, onBatch, clock, log, meter } = this.#deps;
    const signal = this.#abort.signal;
    const manager = await jetstreamManager(connection);
    await ensureStream(manager, { config, pool });
    this.#setConnected(true);
    const status = this.#watchStatus(connection);
    this.#publisher.use(jetstream(connection));
    await consumeNatsLog(manager, {
      stream: config.stream,
      subjects: poolSubjects(pool),
      residency,
      onBatch,
      onCaughtUp: () => this.#markCaughtUp(),
      recreate: () => ensureStream(manager, { config, pool }),
      clock,
      log,
      meter,
      signal,
    });
    await connection.close();
    await status;
  }

  async #watchStatus(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === "disconnect") this.#setConnected(false);
      if (status.type === "reconnect") this.#setConnected(true);
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
