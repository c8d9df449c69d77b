/**
 * vLLM's replay socket: a ZMQ ROUTER that sends buffered batches again.
 *
 * A DEALER asks with [empty, start_seq u64 BE]; a REQ does so too and sees the first reply only. A
 * request of any other number of frames is ignored, one of another length of start_seq is read as an
 * integer of that length, both as in vLLM. vLLM's socket drops replies beyond 1,000 unsent ones of a
 * client; this one keeps them, so that a slow reader does not make a test fail by chance.
 */
import { Router } from "zeromq";
import { messageOf } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { ReplayBuffer, ReplayForm } from "./replay-buffer.ts";

/** Identity, delimiter, start_seq. */
const REQUEST_FRAMES = 3;
/** A larger request ends its connection. */
const REQUEST_BYTES_MAX = 1024;

export interface ZmqReplayOptions {
  /** Port on 127.0.0.1; 0 lets the system choose. */
  readonly port: number;
  readonly form: ReplayForm;
  readonly topic: string;
}

export class ZmqReplay {
  readonly address: string;
  readonly #socket: Router;
  readonly #options: ZmqReplayOptions;
  readonly #buffer: ReplayBuffer;
  readonly #log: Log;
  readonly #task: Promise<void>;
  #served = 0;
  #ignored = 0;

  private constructor(
    socket: Router,
    options: ZmqReplayOptions,
    deps: { readonly buffer: ReplayBuffer; readonly log: Log },
  ) {
    this.address = socket.lastEndpoint ?? "";
    this.#socket = socket;
    this.#options = options;
    this.#buffer = deps.buffer;
    this.#log = deps.log;
    this.#task = this.#serve();
  }

  static async bind(
    options: ZmqReplayOptions,
    deps: { readonly buffer: ReplayBuffer; readonly log: Log },
  ): Promise<ZmqReplay> {
    const socket = new Router({
      linger: 0,
      // 0 is no limit: a whole buffer waits for a slow client.
      sendHighWaterMark: 0,
      maxMessageSize: REQUEST_BYTES_MAX,
    });
    try {
      await socket.bind(`tcp://127.0.0.1:${options.port === 0 ? "*" : options.port}`);
    } catch (reason) {
      socket.close();
      throw reason;
    }
    return new ZmqReplay(socket, options, deps);
  }

  /** Requests answered. */
  get served(): number {
    return this.#served;
  }

  /** Requests of a wrong number of frames. */
  get ignored(): number {
    return this.#ignored;
  }

  async stop(): Promise<void> {
    this.#socket.close();
    await this.#task;
  }

  /** One request after the other, as the publisher thread of vLLM does. */
  async #serve(): Promise<void> {
    const topic = Buffer.from(this.#options.topic);
    for await (const frames of this.#socket) {
      const [identity, , start] = frames;
      if (frames.length !== REQUEST_FRAMES || identity === undefined || start === undefined) {
        this.#ignored += 1;
        continue;
      }
      this.#served += 1;
      const replies = this.#buffer.replies(integerOf(start), { form: this.#options.form, topic });
      try {
        for (const reply of replies) await this.#socket.send([identity, ...reply]);
      } catch (reason) {
        if (!this.#socket.closed) {
          this.#log.error({ cause: messageOf(reason) }, "lab engine: replay reply not sent");
        }
      }
    }
  }
}

/** Python's int.from_bytes(bytes, "big"). */
function integerOf(bytes: Buffer): bigint {
  return bytes.length === 0 ? 0n : BigInt(`0x${bytes.toString("hex")}`);
}
