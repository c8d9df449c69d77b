/**
 * Tells other routers what this one has sent to the endpoints, and hears what they have: over NATS
 * core, so that several routers neither herd on one endpoint nor count it as free twice.
 *
 * Each message is a router's whole own state, so a lost one is healed by the next: one within
 * milliseconds of a dispatch, and one every second besides. Without NATS the router goes on by what it
 * knows itself; what others told fades as they fall silent.
 */
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import { LINE_CHARS_MAX } from "./peer-loads.ts";

/** Shortest time from a dispatch to its message: what is sent meanwhile goes with it, ms. */
const GATHER_MS = 5;
/** A longer message waits longer, so that a router sends no more than this, bytes per ms. */
const BYTES_PER_MS_MAX = 1000;
/** Longest time between two messages, ms. */
const HEARTBEAT_MS = 1000;
/** Pause before the next attempt to reach a server, ms: doubled from the first to the last. */
const CONNECT_RETRY_MS = 500;
const CONNECT_RETRY_MS_MAX = 15_000;

export interface NatsGossipDeps {
  readonly servers: readonly string[];
  /** Routers of one pool and model share a subject. */
  readonly subject: string;
  /** This router's state as it is at the call. */
  readonly line: () => string;
  /** Takes another router's state; why it was refused, or null. Never throws. */
  readonly receive: (line: string) => string | null;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class NatsGossip {
  readonly #deps: NatsGossipDeps;
  readonly #abort = new AbortController();
  readonly #task: Promise<void>;
  #connection: NatsConnection | null = null;
  #isConnected = false;
  #cancelTimer: (() => void) | null = null;
  #isGathering = false;
  #gatherMs = GATHER_MS;

  constructor(deps: NatsGossipDeps) {
    this.#deps = deps;
    this.#task = this.#run();
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** Something was sent to an endpoint: tells it soon. */
  changed(): void {
    if (this.#isGathering || !this.#isConnected) return;
    this.#isGathering = true;
    this.#sendAfter(this.#gatherMs);
  }

  async stop(): Promise<void> {
    // Nothing is in flight any more, or nobody will hear of its end: the others may forget it.
    this.#send();
    this.#abort.abort();
    this.#cancelTimer?.();
    await this.#connection?.drain().catch(() => {});
    await this.#task;
  }

  async #run(): Promise<void> {
    const { clock, log, meter, servers } = this.#deps;
    const { signal } = this.#abort;
    let retryMs = CONNECT_RETRY_MS;
    while (!signal.aborted) {
      try {
        // Reconnects for ever by itself, except where the server refuses it for good. Own messages
        // would come back as another router's.
        const connection = await connect({
          servers: [...servers],
          maxReconnectAttempts: -1,
          reconnectTimeWait: 250,
          noEcho: true,
          name: "kvatlas-gossip",
        });
        retryMs = CONNECT_RETRY_MS;
        await this.#serve(connection);
        if (!signal.aborted) throw new Error("the server closed the connection");
      } catch (error) {
        if (signal.aborted) break;
        meter.count("kvatlas_nats_errors_total", { operation: "gossip" });
        log.warn({ error: messageOf(error), servers }, "NATS is not usable for gossip");
      }
      await sleep(clock, retryMs, signal);
      retryMs = Math.min(CONNECT_RETRY_MS_MAX, retryMs * 2);
    }
  }

  /** Resolves when the connection is closed for good, by either side. */
  async #serve(connection: NatsConnection): Promise<void> {
    if (this.#abort.signal.aborted) {
      await connection.close();
      return;
    }
    this.#connection = connection;
    connection.subscribe(this.#deps.subject, {
      callback: (error, message) => {
        if (error === null) this.#receive(message.data);
      },
    });
    this.#setConnected(true);
    for await (const status of connection.status()) {
      if (status.type === "disconnect") this.#setConnected(false);
      if (status.type === "reconnect") this.#setConnected(true);
    }
    this.#setConnected(false);
    await connection.close();
  }

  #receive(data: Uint8Array): void {
    const { receive, meter } = this.#deps;
    const isOversized = data.length > LINE_CHARS_MAX;
    const refusal = isOversized ? "oversized" : receive(Buffer.from(data).toString("latin1"));
    meter.count("kvatlas_gossip_messages_total", { outcome: refusal ?? "taken" });
  }

  #send(): void {
    this.#isGathering = false;
    if (!this.#isConnected) return;
    const { line: lineOf, subject, meter } = this.#deps;
    const line = lineOf();
    this.#gatherMs = Math.max(GATHER_MS, line.length / BYTES_PER_MS_MAX);
    const isOversized = line.length > LINE_CHARS_MAX;
    if (!isOversized) this.#connection?.publish(subject, line);
    meter.count("kvatlas_gossip_messages_total", { outcome: isOversized ? "oversized" : "sent" });
    this.#sendAfter(HEARTBEAT_MS);
  }

  #sendAfter(delayMs: number): void {
    this.#cancelTimer?.();
    this.#cancelTimer = this.#deps.clock.after(delayMs, () => this.#send());
  }

  #setConnected(isConnected: boolean): void {
    if (isConnected === this.#isConnected) return;
    this.#isConnected = isConnected;
    this.#deps.meter.gauge("kvatlas_gossip_connected", {}, isConnected ? 1 : 0);
    if (isConnected) this.#send();
    else this.#cancelTimer?.();
  }
}
