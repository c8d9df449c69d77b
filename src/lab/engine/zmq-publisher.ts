/**
 * vLLM's event transport: a ZMQ publisher with frames [topic][seq u64 BE][payload]. It binds, or it
 * connects to a subscriber that has bound, as vLLM does with an endpoint that names a host.
 *
 * The socket type is XPUB: on the wire the same as PUB, and it tells how many subscriptions there
 * are, so that a test can wait for its subscriber instead of losing the first batches.
 */
import { XPublisher } from "zeromq";
import { BoundedQueue } from "../../core/bounded-queue.ts";
import { messageOf } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { EventFaults } from "./faults.ts";
import type { MessageFrames } from "./message-damage.ts";
import type { ReplayBuffer } from "./replay-buffer.ts";
import { seqFrame } from "./seq-frame.ts";

/** Batches waiting for the socket; vLLM's max_queue_size. A batch beyond it is lost: a seq gap. */
const QUEUED_BATCHES_MAX = 100_000;
/** Messages that a slow subscriber may be behind before it misses some; vLLM's hwm. */
const HIGH_WATER_MARK = 100_000;
/** Batches taken from the queue at once. */
const BATCHES_PER_TURN = 256;
/** First byte of a subscription message. */
const SUBSCRIBE = 1;

export interface ZmqPublisherOptions {
  /** Port on 127.0.0.1; 0 lets the system choose. Unused where the publisher connects. */
  readonly port: number;
  readonly topic: string;
}

export interface ZmqPublisherParts {
  /** What goes wrong; nothing without. */
  readonly faults?: EventFaults;
  /** Takes every batch that gets a number. */
  readonly buffer?: ReplayBuffer | null;
}

export class ZmqPublisher {
  readonly address: string;
  readonly #socket: XPublisher;
  readonly #topic: Buffer;
  readonly #log: Log;
  readonly #faults: EventFaults;
  readonly #buffer: ReplayBuffer | null;
  readonly #queue = new BoundedQueue<MessageFrames>(QUEUED_BATCHES_MAX);
  readonly #end = new AbortController();
  readonly #tasks: Promise<unknown>[];
  #nextSeq = 0;
  #droppedBatches = 0;
  #subscriptions = 0;

  private constructor(
    socket: XPublisher,
    place: { readonly address: string; readonly topic: string },
    deps: { readonly log: Log; readonly parts: ZmqPublisherParts },
  ) {
    this.address = place.address;
    this.#socket = socket;
    this.#topic = Buffer.from(place.topic);
    this.#log = deps.log;
    this.#faults = deps.parts.faults ?? new EventFaults(0);
    this.#buffer = deps.parts.buffer ?? null;
    this.#faults.attach((frames) => this.#enqueue(frames));
    this.#tasks = [this.#send(), this.#countSubscriptions()];
  }

  static async bind(
    options: ZmqPublisherOptions,
    log: Log,
    parts: ZmqPublisherParts = {},
  ): Promise<ZmqPublisher> {
    const socket = newSocket();
    try {
      await socket.bind(`tcp://127.0.0.1:${options.port === 0 ? "*" : options.port}`);
    } catch (reason) {
      socket.close();
      throw reason;
    }
    const place = { address: socket.lastEndpoint ?? "", topic: options.topic };
    return new ZmqPublisher(socket, place, { log, parts });
  }

  /** Connects to "tcp://host:port"; batches until the subscriber is there are lost, as in vLLM. */
  static connect(
    place: { readonly address: string; readonly topic: string },
    log: Log,
    parts: ZmqPublisherParts = {},
  ): ZmqPublisher {
    const socket = newSocket();
    try {
      socket.connect(place.address);
    } catch (reason) {
      socket.close();
      throw reason;
    }
    return new ZmqPublisher(socket, place, { log, parts });
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
    const seq = this.#faults.takeSeq(this.#nextSeq);
    // A lost batch keeps its number, so that subscribers see the gap.
    this.#nextSeq = seq + 1;
    this.#buffer?.push(seq, payload);
    this.#faults.pass([this.#topic, seqFrame(seq), payload]);
  }

  /** Sends what is queued, then closes the socket. */
  async stop(): Promise<void> {
    this.#end.abort();
    await this.#tasks[0];
    this.#socket.close();
    await Promise.all(this.#tasks);
  }

  #enqueue(frames: MessageFrames): void {
    if (this.#end.signal.aborted || !this.#queue.push(frames)) this.#droppedBatches += 1;
  }

  /** One send at a time: the socket refuses a second one, and order is the protocol. */
  async #send(): Promise<void> {
    while (!this.#end.signal.aborted || this.#queue.length > 0) {
      await this.#queue.wait(this.#end.signal);
      for (const frames of this.#queue.take(BATCHES_PER_TURN)) {
        try {
          await this.#socket.send([...frames]);
        } catch (reason) {
          this.#droppedBatches += 1;
          this.#log.error({ cause: messageOf(reason) }, "lab engine: KV event batch not sent");
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

function newSocket(): XPublisher {
  return new XPublisher({
    linger: 0,
    sendHighWaterMark: HIGH_WATER_MARK,
    // Every subscription is reported, not only the first of a topic.
    verbosity: "allSubsUnsubs",
  });
}
