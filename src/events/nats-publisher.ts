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
/** Bytes of the newest acknowledged messages, kept to be sent again into a stream made anew. */
const SENT_BYTES_MAX = 16_777_216;
/** Bytes of a message beside its batches: subject, headers, endpoint. */
const OVERHEAD_BYTES = 1024;
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

interface LogMessage {
  readonly endpoint: EndpointId;
  readonly msgID: string;
  readonly data: Uint8Array;
}

/** What waits for one endpoint's turn, in the order in which it is sent. */
interface Lane {
  readonly again: LogMessage[];
  /** Under way, or about to be. */
  current: { readonly message: LogMessage; readonly batches: readonly KeyedBatch[] } | null;
  readonly pending: KeyedBatch[];
}

export class NatsPublisher {
  readonly #deps: NatsPublisherDeps;
  readonly #lanes = new Map<EndpointId, Lane>();
  readonly #sending = new Map<EndpointId, Promise<void>>();
  /** Acknowledged, oldest first. */
  readonly #sent = new Set<LogMessage>();
  #sentBytes = 0;
  #pendingBatches = 0;
  #client: LogClient | null = null;
  #payloadBytesMax: () => number = () => Number.POSITIVE_INFINITY;

  constructor(deps: NatsPublisherDeps) {
    this.#deps = deps;
  }

  /** Publishes through this client from now on, with what its server accepts in one message. */
  use(client: LogClient, payloadBytesMax?: () => number): void {
    this.#client = client;
    if (payloadBytesMax !== undefined) this.#payloadBytesMax = payloadBytesMax;
    for (const endpoint of this.#lanes.keys()) this.#start(endpoint);
  }

  accept(batch: KeyedBatch): boolean {
    if (this.#pendingBatches >= PENDING_BATCHES_MAX) {
      this.#deps.meter.count("kvatlas_events_refused_total", { reason: "nats-queue-full" });
      return false;
    }
    const { endpointId } = batch.holder;
    this.#lane(endpointId).pending.push(batch);
    this.#addPending(1);
    this.#start(endpointId);
    return true;
  }

  /**
   * The stream is to be made anew: what it had, readers may not have read. The newest messages go
   * first, before anything that is new; readers drop those that they know.
   */
  sendAgain(): void {
    const sent = [...this.#sent];
    this.#sent.clear();
    this.#sentBytes = 0;
    for (const message of sent) this.#lane(message.endpoint).again.push(message);
    for (const { endpoint } of sent) this.#start(endpoint);
  }

  /** Bytes of batches that go into one message. */
  get messageBytesMax(): number {
    return Math.min(LOG_MESSAGE_BYTES_MAX, this.#payloadBytesMax() - OVERHEAD_BYTES);
  }

  async stopped(): Promise<void> {
    await Promise.all(this.#sending.values());
  }

  #lane(endpoint: EndpointId): Lane {
    let lane = this.#lanes.get(endpoint);
    if (lane === undefined) {
      lane = { again: [], current: null, pending: [] };
      this.#lanes.set(endpoint, lane);
    }
    return lane;
  }

  #start(endpoint: EndpointId): void {
    if (this.#client === null || this.#sending.has(endpoint)) return;
    this.#sending.set(endpoint, this.#send(endpoint, this.#lane(endpoint)));
  }

  async #send(endpoint: EndpointId, lane: Lane): Promise<void> {
    // Yields once, so that all batches of this turn go into the first message.
    await Promise.resolve();
    const { clock, signal } = this.#deps;
    for (;;) {
      const message = this.#next(endpoint, lane);
      if (message === null || signal.aborted) break;
      if (await this.#publish(message)) this.#acknowledged(lane, message);
      else await sleep(clock, RETRY_MS, signal);
    }
    // In the same step as the last look at the lane: a batch that comes later starts anew.
    this.#sending.delete(endpoint);
    if (!signal.aborted) this.#lanes.delete(endpoint);
  }

  #next(endpoint: EndpointId, lane: Lane): LogMessage | null {
    const bytesMax = this.messageBytesMax;
    while (lane.again[0] !== undefined && lane.again[0].data.length > bytesMax) lane.again.shift();
    if (lane.again[0] !== undefined) return lane.again[0];
    // A server that came back with a smaller limit.
    if (lane.current !== null && lane.current.message.data.length > bytesMax + OVERHEAD_BYTES) {
      lane.pending.unshift(...lane.current.batches);
      lane.current = null;
    }
    if (lane.current === null && lane.pending.length > 0) {
      const batches = takeMessage(lane.pending, bytesMax);
      const data = encodeKeyedBatches(endpoint, batches);
      lane.current = { message: { endpoint, msgID: messageId(batches), data }, batches };
    }
    return lane.current?.message ?? null;
  }

  /** Tried until the server acknowledges: the same message id, so that a repeat is dropped there. */
  async #publish({ endpoint, msgID, data }: LogMessage): Promise<boolean> {
    const { pool, log, meter, signal } = this.#deps;
    const subject = eventSubject(pool, endpoint);
    try {
      await this.#client?.publish(subject, data, { msgID, timeout: ACK_TIMEOUT_MS });
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      meter.count("kvatlas_nats_errors_total", { operation: "publish" });
      log.debug({ subject, error: messageOf(error) }, "publish to NATS failed, trying again");
      return false;
    }
  }

  #acknowledged(lane: Lane, message: LogMessage): void {
    if (lane.current?.message === message) {
      const batches = lane.current.batches.length;
      lane.current = null;
      this.#deps.meter.count("kvatlas_nats_published_total", {}, batches);
      this.#addPending(-batches);
    } else lane.again.shift();
    this.#sent.add(message);
    this.#sentBytes += message.data.length;
    for (const oldest of this.#sent) {
      if (this.#sentBytes <= SENT_BYTES_MAX) break;
      this.#sent.delete(oldest);
      this.#sentBytes -= oldest.data.length;
    }
  }

  #addPending(batches: number): void {
    this.#pendingBatches += batches;
    this.#deps.meter.gauge("kvatlas_nats_pending_batches", {}, this.#pendingBatches);
  }
}

/** Takes as many batches as fit into one message; one that never fits leaves a loss in its place. */
function takeMessage(pending: KeyedBatch[], bytesMax: number): KeyedBatch[] {
  let bytes = 0;
  let count = 0;
  for (const batch of pending) {
    bytes += encodedBytesMax(batch);
    if (bytes > bytesMax) break;
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
