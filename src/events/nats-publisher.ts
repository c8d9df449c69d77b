/**
 * Publishes keyed batches: one message in flight per endpoint, acknowledged before the next is sent.
 *
 * What piles up meanwhile goes into the next message, so that the window sizes itself: a batch at a
 * time when idle, hundreds under load. Publishing without acks loses messages silently (41 % of a
 * million at full speed), and several in flight could be stored out of order after a retry.
 */
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import { encodedBytesMax, encodeKeyedBatches, LOG_MESSAGE_BYTES_MAX } from "./keyed-batch-codec.ts";
import { eventSubject } from "./nats-stream.ts";

/** Batches held while NATS is away; more are refused and show as a gap. */
export const PENDING_BATCHES_MAX = 65_536;
const ACK_TIMEOUT_MS = 2000;
const RETRY_MS = 250;

/** What is needed of a JetStream client. */
export interface LogClient {
  publish(
    subject: string,
    data: Uint8Array,
    options: { readonly msgID: string; readonly timeout: number },
  ): Promise<unknown>;
}

export interface NatsPublisherDeps {
  readonly pool: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  readonly signal: AbortSignal;
}

export class NatsPublisher {
  readonly #deps: NatsPublisherDeps;
  readonly #pendingOf = new Map<EndpointId, KeyedBatch[]>();
  readonly #sending = new Map<EndpointId, Promise<void>>();
  #pendingBatches = 0;
  #jetstream: LogClient | null = null;

  constructor(deps: NatsPublisherDeps) {
    this.#deps = deps;
  }

  /** Publishes through this client from now on. */
  use(client: LogClient): void {
    this.#jetstream = client;
    for (const endpoint of this.#pendingOf.keys()) this.#start(endpoint);
  }

  accept(batch: KeyedBatch): boolean {
    if (this.#pendingBatches >= PENDING_BATCHES_MAX) {
      this.#deps.meter.count("kvatlas_events_refused_total", { reason: "nats-queue-full" });
      return false;
    }
    const { endpointId } = batch.holder;
    const pending = this.#pendingOf.get(endpointId);
    if (pending === undefined) this.#pendingOf.set(endpointId, [batch]);
    else pending.push(batch);
    this.#addPending(1);
    this.#start(endpointId);
    return true;
  }

  async stopped(): Promise<void> {
    await Promise.all(this.#sending.values());
  }

  #start(endpoint: EndpointId): void {
    if (this.#jetstream === null || this.#sending.has(endpoint)) return;
    this.#sending.set(endpoint, this.#send(endpoint));
  }

  async #send(endpoint: EndpointId): Promise<void> {
    // Yields once, so that all batches of this turn go into the first message.
    await Promise.resolve();
    const pending = this.#pendingOf.get(endpoint) ?? [];
    while (pending.length > 0 && !this.#deps.signal.aborted) {
      const batches = takeMessage(pending);
      await this.#publish(endpoint, batches);
      this.#addPending(-batches.length);
    }
    // In the same step as the last look at `pending`: a batch that comes later starts anew.
    this.#sending.delete(endpoint);
    if (pending.length === 0) this.#pendingOf.delete(endpoint);
  }

  /** Tries until the server acknowledges: the same message id, so that a repeat is dropped there. */
  async #publish(endpoint: EndpointId, batches: readonly KeyedBatch[]): Promise<void> {
    const { pool, clock, log, meter, signal } = this.#deps;
    const subject = eventSubject(pool, endpoint);
    const data = encodeKeyedBatches(endpoint, batches);
    const msgID = messageId(batches);
    while (!signal.aborted) {
      try {
        await this.#jetstream?.publish(subject, data, { msgID, timeout: ACK_TIMEOUT_MS });
        meter.count("kvatlas_nats_published_total", {}, batches.length);
        return;
      } catch (error) {
        if (signal.aborted) return;
        meter.count("kvatlas_nats_errors_total", { operation: "publish" });
        log.debug({ subject, error: messageOf(error) }, "publish to NATS failed, trying again");
        await sleep(clock, RETRY_MS, signal);
      }
    }
  }

  #addPending(batches: number): void {
    this.#pendingBatches += batches;
    this.#deps.meter.gauge("kvatlas_nats_pending_batches", {}, this.#pendingBatches);
  }
}

/** Takes as many batches as fit into one message; one that never fits leaves a loss in its place. */
function takeMessage(pending: KeyedBatch[]): KeyedBatch[] {
  let bytes = 0;
  let count = 0;
  for (const batch of pending) {
    bytes += encodedBytesMax(batch);
    if (bytes > LOG_MESSAGE_BYTES_MAX) break;
    count += 1;
  }
  if (count > 0) return pending.splice(0, count);
  return pending
    .splice(0, 1)
    .map((batch) => ({ ...batch, events: [{ type: "lost", reason: "oversized" }] }));
}

function messageId(batches: readonly KeyedBatch[]): string {
  const [first] = batches;
  const last = batches.at(-1);
  if (first === undefined || last === undefined) return "";
  const { endpointId } = first.holder;
  const place = (batch: KeyedBatch): string => `${batch.holder.rank}.${batch.epoch}.${batch.seq}`;
  return `${endpointId}/${place(first)}-${place(last)}`;
}
