/** One gRPC call on a stream of node:http2: messages in and out, and a status at its end. */
import http2, { type ServerHttp2Stream } from "node:http2";
import type { Clock } from "../core/clock.ts";
import { type FrameLimits, FrameReader, frameParts, type MessageLoss } from "./grpc-frames.ts";

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
 * - caller-deadline: the time that the caller gave is over
 */
export type CallRefusal = "transport" | "caller-deadline";

export interface CallDeps {
  readonly clock: Clock;
  readonly onRefused: (reason: CallRefusal) => void;
}

/** What throws ends the call as a message of no known form does. */
export interface CallEvents {
  onMessage(message: Buffer): void;
  /** A message came in part, and the rest is not taken: the call is to be ended. */
  onMessageLost?(why: MessageLoss): void;
  /** The peer sends nothing more and reads on. */
  onHalfClosed(): void;
  /** What was written has gone, after `write` had said that it has not. */
  onDrain(): void;
  /** This side ended the call; nothing of it is wanted any more. */
  onRefused(): void;
  /** Last of all: what was written has gone, or the peer reset the call, or its connection is gone. */
  onClosed(): void;
}

/** Names and values in turn, which Node need not sort and check for each call. */
const HEADERS = [":status", "200", "content-type", "application/grpc"] as const;
const COMPRESSED: CallEnd = {
  code: GRPC_STATUS.unimplemented,
  details: "messages must not be compressed",
};
const TOO_LARGE: CallEnd = {
  code: GRPC_STATUS.resourceExhausted,
  details: "message over the limit",
};

/** A peer that has the status of its call and does not end it within this time is told to, ms. */
const RESET_AFTER_MS = 1000;
const CUT: CallEnd = { code: GRPC_STATUS.internal, details: "half a message" };
const UNREADABLE: CallEnd = { code: GRPC_STATUS.internal, details: "message cannot be read" };

const NOTHING = (): void => {};

function destroyAborted(this: ServerHttp2Stream): void {
  this.destroy();
}

export class Http2GrpcCall {
  readonly #stream: ServerHttp2Stream;
  readonly #deps: CallDeps;
  #events: CallEvents | null = null;
  #isEnded = false;

  constructor(stream: ServerHttp2Stream, deps: CallDeps) {
    this.#stream = stream;
    this.#deps = deps;
    // A stream without a listener would throw its errors; 'close' follows each.
    stream.on("error", NOTHING);
    // Node waits with a stream that was reset without an error until all is read and written.
    stream.on("aborted", destroyAborted);
  }

  start(limits: FrameLimits, events: CallEvents): void {
    const stream = this.#stream;
    this.#events = events;
    const reader = new FrameReader(limits, (message) => {
      if (!this.#isEnded) events.onMessage(message);
    });
    stream.on("data", (chunk: Buffer) =>
      this.#guarded(() => {
        const refusal = this.#isEnded ? null : reader.push(chunk);
        if (refusal === "compressed") this.refuse("transport", COMPRESSED);
        else if (refusal !== null && events.onMessageLost) events.onMessageLost(refusal);
        else if (refusal !== null) this.refuse("transport", TOO_LARGE);
        if (refusal !== null) reader.release();
      }),
    );
    // A reset ends the reading side too.
    stream.on("end", () => {
      if (stream.aborted || this.#isEnded) return;
      if (reader.isWithinMessage) this.refuse("transport", CUT);
      else this.#guarded(() => events.onHalfClosed());
    });
    stream.on("drain", () => this.#guarded(() => events.onDrain()));
    stream.on("close", () => {
      reader.release();
      this.#guarded(() => events.onClosed());
    });
  }

  /** Nothing that a peer sends may throw out of an event of the stream: the process would end. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch {
      this.refuse("transport", UNREADABLE);
    }
  }

  /** Ends the call for a reason that its handler does not know, and tells it. */
  refuse(reason: CallRefusal, end: CallEnd): void {
    if (this.#isEnded) return;
    this.#deps.onRefused(reason);
    this.end(end);
    this.#isEnded = true;
    const events = this.#events;
    if (events !== null) this.#guarded(() => events.onRefused());
  }

  /** Answers what is no call of gRPC. */
  reject(httpStatus: number): void {
    this.#deps.onRefused("transport");
    this.#isEnded = true;
    this.#stream.resume();
    this.#stream.respond([":status", String(httpStatus)], { endStream: true });
    this.#resetLater();
  }

  /** A message in its parts. False when more waits to be sent than should; nothing is lost. */
  write(...parts: readonly Uint8Array[]): boolean {
    if (this.#isEnded || this.#isGone) return true;
    if (!this.#stream.headersSent) this.#stream.respond([...HEADERS], { waitForTrailers: true });
    let isTaken = true;
    for (const part of frameParts(parts)) isTaken = this.#stream.write(part);
    return isTaken;
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

  /** Whether more of what was written waits than should. */
  get isBacklogged(): boolean {
    return this.#stream.writableLength >= this.#stream.writableHighWaterMark;
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
    this.#resetLater();
    if (!stream.headersSent) {
      stream.respond([...HEADERS, ...Object.entries(status).flat()], { endStream: true });
      return;
    }
    stream.once("wantTrailers", () => {
      if (!this.#isGone) stream.sendTrailers(status);
    });
    stream.end();
  }

  /** Not at once: a reset overtakes the status that waits to be sent. */
  #resetLater(): void {
    const stream = this.#stream;
    stream.once("finish", () => {
      if (stream.readableEnded) return;
      const reset = (): void => stream.close(http2.constants.NGHTTP2_NO_ERROR);
      stream.once("close", this.#deps.clock.after(RESET_AFTER_MS, reset));
    });
  }
}
