/** One gRPC call on a stream of node:http2: messages in and out, and a status at its end. */
import type { ServerHttp2Stream } from "node:http2";
import { FrameReader, type FrameRefusal, framed } from "./grpc-frames.ts";

/** Of gRPC's status codes those that are given here. */
export const GRPC_STATUS = {
  ok: 0,
  deadlineExceeded: 4,
  notFound: 5,
  resourceExhausted: 8,
  aborted: 10,
  unimplemented: 12,
  internal: 13,
} as const;

export interface CallEnd {
  readonly code: number;
  readonly details: string;
}

/**
 * Why this side ended a call before its handler could; label of the refusal counter.
 * - transport: a message over its bound, of no known form, or cut, or a call that is none of gRPC
 */
export type CallRefusal = "transport";

/** What throws ends the call as a message of no known form does. */
export interface CallEvents {
  readonly onMessage: (message: Buffer) => void;
  /** The peer sends nothing more and reads on. */
  readonly onHalfClosed: () => void;
  /** What was written has gone, after `write` had said that it has not. */
  readonly onDrain: () => void;
  /** Last of all: the call has ended, or the peer reset it, or its connection is gone. */
  readonly onClosed: () => void;
}

/** Names and values in turn, which Node need not sort and check for each call. */
const HEADERS = [":status", "200", "content-type", "application/grpc"] as const;
const REFUSALS: Readonly<Record<FrameRefusal, CallEnd>> = {
  compressed: { code: GRPC_STATUS.unimplemented, details: "messages must not be compressed" },
  "too-large": { code: GRPC_STATUS.resourceExhausted, details: "message over the limit" },
};

const UNREADABLE: CallEnd = { code: GRPC_STATUS.internal, details: "message cannot be read" };

export class Http2GrpcCall {
  readonly #stream: ServerHttp2Stream;
  readonly #onRefused: (reason: CallRefusal) => void;
  #isEnded = false;

  constructor(stream: ServerHttp2Stream, onRefused: (reason: CallRefusal) => void) {
    this.#stream = stream;
    this.#onRefused = onRefused;
    // A stream without a listener would throw its errors; 'close' follows each.
    stream.on("error", () => {});
  }

  start(messageBytesMax: number, events: CallEvents): void {
    const stream = this.#stream;
    const reader = new FrameReader(messageBytesMax, (message) => {
      if (!this.#isEnded) events.onMessage(message);
    });
    stream.on("data", (chunk: Buffer) =>
      this.#guarded(() => {
        const refusal = this.#isEnded ? null : reader.push(chunk);
        if (refusal !== null) this.refuse("transport", REFUSALS[refusal]);
      }),
    );
    // A reset ends the reading side too.
    stream.on("end", () => {
      if (!stream.aborted) this.#guarded(events.onHalfClosed);
    });
    stream.on("drain", () => this.#guarded(events.onDrain));
    stream.on("close", () => this.#guarded(events.onClosed));
  }

  /** Nothing that a peer sends may throw out of an event of the stream: the process would end. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch {
      this.refuse("transport", UNREADABLE);
    }
  }

  refuse(reason: CallRefusal, end: CallEnd): void {
    this.#onRefused(reason);
    this.end(end);
  }

  /** False when more waits to be sent than should; nothing is lost. */
  write(message: Uint8Array): boolean {
    if (this.#isEnded || this.#isGone) return true;
    if (!this.#stream.headersSent) this.#stream.respond([...HEADERS], { waitForTrailers: true });
    return this.#stream.write(framed(message));
  }

  /** What is written in `work` goes out together. */
  together(work: () => void): void {
    this.#stream.cork();
    try {
      work();
    } finally {
      this.#stream.uncork();
    }
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  /** A reset is known here some turns before 'close' tells of it; to answer would throw by then. */
  get #isGone(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }

  /** Sends the status; the first one counts. */
  end({ code, details }: CallEnd): void {
    const stream = this.#stream;
    if (this.#isEnded || this.#isGone) return;
    this.#isEnded = true;
    const status = { "grpc-status": String(code), "grpc-message": encodeURIComponent(details) };
    // The peer may go on sending; what comes is dropped.
    stream.resume();
    if (!stream.headersSent) {
      stream.respond([...HEADERS, ...Object.entries(status).flat()], { endStream: true });
      return;
    }
    stream.once("wantTrailers", () => {
      if (!this.#isGone) stream.sendTrailers(status);
    });
    stream.end();
  }
}
