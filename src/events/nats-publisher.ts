/**
 * Publishes keyed batches: one message in flight per endpoint, acknowledged before the next is sent,
 * and few over all endpoints.
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
import { isNote, type KeyedBatch } from "./keyed-batch.ts";
import { encodedBytesMax, encodeKeyedBatches, LOG_MESSAGE_BYTES_MAX } from "./keyed-batch-codec.ts";
import { eventSubject } from "./nats-stream.ts";

/** Batches held while NATS is away; more are refused and show as a gap. */
export const PENDING_BATCHES_MAX = 65_536;
/** Bytes of such batches. */
export const PENDING_BYTES_MAX = 134_217_728;
/**
 * Messages in flight over all endpoints. A message costs both sides more than its batches do: with many
 * endpoints under load, each waits its turn and sends more at once.
 */
export const IN_FLIGHT_MAX = 8;
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
  readonly endpoint: EndpointId;
  readonly again: LogMessage[];
  /** Under way, or about to be. */
  current: { readonly message: LogMessage; readonly batches: readonly KeyedBatch[] } | null;
  readonly pending: KeyedBatch[];
  /** Whether it waits for its turn, or has it. */
  isQueued: boolean;
}

export class NatsPublisher {
  readonly #deps: NatsPublisherDeps;
  readonly #lanes = new Map<EndpointId, Lane>();
  /** Those whose turn is to come, the next first. */
  readonly #queue: Lane[] = [];
  readonly #sending = new Set<Promise<void>>();
  /** Acknowledged, oldest first. */
  readonly #sent = new Set<LogMessage>();
  #sentBytes = 0;
  #pendingBatches = 0;
  #pendingBytes = 0;
  #client: LogClient | null = null;
  #payloadBytesMax: () => number = () => Number.POSITIVE_INFINITY;

  constructor(deps: NatsPublisherDeps) {
    this.#deps = deps;
  }

  /** Publishes through this client from now on, with what its server accepts in one message. */
  use(client: LogClient, payloadBytesMax?: () => number): void {
    this.#client = client;
    if (payloadBytesMax !== undefined) this.#payloadBytesMax = payloadBytesMax;
    this.#fill();
  }

  accept(batch: KeyedBatch): boolean {
    const bytes = this.#pendingBytes + encodedBytesMax(batch);
    if (this.#pendingBatches >= PENDING_BATCHES_MAX || bytes > PENDING_BYTES_MAX) {
      this.#deps.meter.count("kvatlas_events_refused_total", { reason: "nats-queue-full" });
      return false;
    }
    const lane = this.#lane(batch.holder.endpointId);
    lane.pending.push(batch);
    this.#setPending(this.#pendingBatches + 1, bytes);
    this.#enqueue(lane);
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
    for (const { endpoint } of sent) this.#enqueue(this.#lane(endpoint));
  }

  /** Bytes of batches that go into one message. */
  get messageBytesMax(): number {
    return Math.min(LOG_MESSAGE_BYTES_MAX, this.#payloadBytesMax() - OVERHEAD_BYTES);
  }

  async stopped(): Promise<void> {
    await Promise.all(this.#sending);
  }

  #lane(endpoint: EndpointId): Lane {
    let lane = this.#lanes.get(endpoint);
    if (lane === undefined) {
      lane = { endpoint, again: [], current: null, pending: [], isQueued: false };
      this.#lanes.set(endpoint, lane);
    }
    return lane;
  }

  #enqueue(lane: Lane): void {
    if (lane.isQueued) return;
    lane.isQueued = true;
    this.#queue.push(lane);
    this.#fill();
  }

  /** Begins to send as many messages as may be in flight. */
  #fill(): void {
    const { signal } = this.#deps;
    while (this.#client !== null && !signal.aborted && this.#sending.size < IN_FLIGHT_MAX) {
      const lane = this.#queue.shift();
      if (lane === undefined) return;
      const sending = this.#send(lane).finally(() => {
        this.#sending.delete(sending);
        this.#fill();
      });
      this.#sending.add(sending);
    }
  }

  /** One message of a lane, which stands last in the queue afterwards if it has more. */
  async #send(lane: Lane): Promise<void> {
    // Yields once, so that all batches of this turn go into the first message.
    await Promise.resolve();
    const { clock, signal } = this.#deps;
    const message = this.#next(lane);
    if (message !== null && !signal.aborted) {
      if (await this.#publish(message)) this.#acknowledged(lane, message);
      else await sleep(clock, RETRY_MS, signal);
    }
    lane.isQueued = false;
    if (this.#isEmpty(lane)) this.#lanes.delete(lane.endpoint);
    else this.#enqueue(lane);
  }

  #isEmpty({ again, current, pending }: Lane): boolean {
    return again.length === 0 && current === null && pending.length === 0;
  }

  #next(lane: Lane): LogMessage | null {
    const { endpoint } = lane;
    const bytesMax = this.messageBytesMax;
    while (lane.again[0] !== undefined && lane.again[0].data.length > bytesMax) lane.again.shift();
    if (lane.again[0] !== undefined) return lane.again[0];
    // A server that came back with a smaller limit.
    if (lane.current !== null && lane.current.message.data.length > bytesMax + OVERHEAD_BYTES) {
      lane.pending.unshift(...lane.current.batches);
      lane.current = null;
    }
    if (lane.current === null && lane.pending.length > 0) {
      const count = countFitting(lane.pending, bytesMax);
      const batches = lane.pending.splice(0, Math.max(1, count));
      const data = encodeKeyedBatches(endpoint, count > 0 ? batches : batches.map(oversized));
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
      const { batches } = lane.current;
      lane.current = null;
      let bytes = this.#pendingBytes;
      for (const batch of batches) bytes -= encodedBytesMax(batch);
      this.#setPending(this.#pendingBatches - batches.length, bytes);
      this.#deps.meter.count("kvatlas_nats_published_total", {}, batches.length);
    } else lane.again.shift();
    this.#sent.add(message);
    this.#sentBytes += message.data.length;
    for (const oldest of this.#sent) {
      if (this.#sentBytes <= SENT_BYTES_MAX) break;
      this.#sent.delete(oldest);
      this.#sentBytes -= oldest.data.length;
    }
  }

  #setPending(batches: number, bytes: number): void {
    this.#pendingBatches = batches;
    this.#pendingBytes = bytes;
    this.#deps.meter.gauge("kvatlas_nats_pending_batches", {}, batches);
  }
}

/** How many batches, the first ones, fit into one message. */
function countFitting(pending: readonly KeyedBatch[], bytesMax: number): number {
  let bytes = 0;
  let count = 0;
  for (const batch of pending) {
    bytes += encodedBytesMax(batch);
    if (bytes > bytesMax) break;
    count += 1;
  }
  return count;
}

/** What a batch that never fits leaves in its place. */
function oversized(batch: KeyedBatch): KeyedBatch {
  return { ...batch, events: [{ type: "lost", reason: "oversized" }] };
}

function messageId(batches: readonly KeyedBatch[]): string {
  const [first] = batches;
  const last = batches.at(-1);
  if (first === undefined || last === undefined) return "";
  const { endpointId } = first.holder;
  const place = (batch: KeyedBatch): string => {
    const { holder, epoch, seq, engineMs } = batch;
    return `${holder.rank}.${epoch}.${seq}.${engineMs}${isNote(batch) ? "n" : ""}`;
  };
  return `${endpointId}/${place(first)}-${place(last)}`;
}
