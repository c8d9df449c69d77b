/**
 * vLLM's event transport: a ZMQ publisher that binds, frames [topic][seq u64 BE][payload].
 *
 * The socket type is XPUB: on the wire the same as PUB, and it tells how many subscriptions there
 * are, so that a test can wait for its subscriber instead of losing the first batches.
 */
import { XPublisher } from "zeromq";
import { BoundedQueue } from "../../core/bounded-queue.ts";
import { messageOf } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";

/** Batches waiting for the socket; vLLM's max_queue_size. A batch beyond it is lost: a seq gap. */
const QUEUED_BATCHES_MAX = 100_000;
/** Messages that a slow subscriber may be behind before it misses some; vLLM's hwm. */
const HIGH_WATER_MARK = 100_000;
/** Batches taken from the queue at once. */
const BATCHES_PER_TURN = 256;
/** First byte of a subscription message. */
const SUBSCRIBE = 1;

interface QueuedBatch {
  readonly seq: number;
  readonly payload: Uint8Array;
}

export interface ZmqPublisherOptions {
  /** Port on 127.0.0.1; 0 lets the system choose. */
  readonly port: number;
  readonly topic: string;
}

export class ZmqPublisher {
  readonly address: string;
  readonly #socket: XPublisher;
  readonly #topic: string;
  readonly #log: Log;
  readonly #queue = new BoundedQueue<QueuedBatch>(QUEUED_BATCHES_MAX);
  readonly #end = new AbortController();
  readonly #tasks: Promise<unknown>[];
  #nextSeq = 0;
  #droppedBatches = 0;
  #subscriptions = 0;

  private constructor(socket: XPublisher, topic: string, log: Log) {
    this.address = socket.lastEndpoint ?? "";
    this.#socket = socket;
    this.#topic = topic;
    this.#log = log;
    this.#tasks = [this.#send(), this.#countSubscriptions()];
  }

  static async bind(options: ZmqPublisherOptions, log: Log): Promise<ZmqPublisher> {
    const socket = new XPublisher({
      linger: 0,
      sendHighWaterMark: HIGH_WATER_MARK,
      // Every subscription is reported, not only the first of a topic.
      verbosity: "allSubsUnsubs",
    });
    try {
      await socket.bind(`tcp://127.0.0.1:${options.port === 0 ? "*" : options.port}`);
    } catch (reason) {
      socket.close();
      throw reason;
    }
    return new ZmqPublisher(socket, options.topic, log);
  }

  /** Sequence number of the newest batch handed to the socket's queue; -1 before the first. */
  get publishedSeq(): number {
    return this.#nextSeq - 1;
  }

  /** Batches lost because the queue was full. */
  get droppedBatches(): number {
    return this.#droppedBatches;
  }

  /** Subscriptions that are open. */
  get subscriptions(): number {
    return this.#subscriptions;
  }

  publish(payload: Uint8Array): void {
    // A lost batch keeps its number, so that subscribers see the gap.
    if (!this.#queue.push({ seq: this.#nextSeq, payload })) this.#droppedBatches += 1;
    this.#nextSeq += 1;
  }

  /** Sends what is queued, then closes the socket. */
  async stop(): Promise<void> {
    this.#end.abort();
    await this.#tasks[0];
    this.#socket.close();
    await Promise.all(this.#tasks);
  }

  /** One send at a time: the socket refuses a second one, and order is the protocol. */
  async #send(): Promise<void> {
    const topic = Buffer.from(this.#topic);
    while (!this.#end.signal.aborted || this.#queue.length > 0) {
      await this.#queue.wait(this.#end.signal);
      for (const { seq, payload } of this.#queue.take(BATCHES_PER_TURN)) {
        const seqBytes = Buffer.alloc(8);
        seqBytes.writeBigUInt64BE(BigInt(seq));
        try {
          await this.#socket.send([topic, seqBytes, payload]);
        } catch (reason) {
          this.#droppedBatches += 1;
          this.#log.error({ seq, cause: messageOf(reason) }, "lab engine: KV event batch not sent");
        }
      }
    }
  }

  async #countSubscriptions(): Promise<void> {
    for await (const [message] of this.#socket) {
      this.#subscriptions += message?.[0] === SUBSCRIBE ? 1 : -1;
    }
  }
}
