/**
 * Reads one engine's KV events from its ZMQ PUB socket.
 *
 * The engine binds, we connect; libzmq reconnects by itself, except after a violation of its protocol
 * (a message over the limit is one): then it gives up in silence, and the socket is opened anew. A PUB
 * socket drops what it cannot send, and nothing but the sequence numbers tells. Cost: about 10 us per
 * message.
 */
import { Subscriber } from "zeromq";
import { type Clock, sleep } from "../core/clock.ts";
import { zmqContext } from "./zmq-context.ts";

/** Messages that libzmq holds while the reader is busy: a burst, not a backlog. */
const RECEIVE_MESSAGES_MAX = 16_384;
/** Bytes of one message that libzmq accepts; a larger one closes the connection. */
export const MESSAGE_BYTES_MAX = 33_554_432;
/** Time in which messages are read in one turn of the event loop, ms: a flood starves no request. */
const TURN_MS_MAX = 2;
/** libzmq announces its next attempt right after a disconnect; none within this time means never, ms. */
const RETRY_ANNOUNCED_MS = 250;

export interface ZmqSource {
  /** "tcp://host:port" */
  readonly address: string;
  /** Prefix of the topics to read; empty for all. */
  readonly topic: string;
}

export interface ZmqReaderDeps {
  readonly clock: Clock;
  readonly ready: Promise<void>;
  readonly onFrames: (frames: readonly Uint8Array[]) => void;
  /** A connection stands, the first one or another after a loss. */
  readonly onConnected: () => void;
  /** The engine's side broke the protocol, and the connection is opened anew. */
  readonly onViolation: () => void;
  readonly signal: AbortSignal;
}

/**
 * Connects at once, so that libzmq keeps what arrives, and hands messages over from the moment that
 * `ready` resolves until the signal aborts. Throws when the address is none.
 */
export async function readZmqEvents(source: ZmqSource, deps: ZmqReaderDeps): Promise<void> {
  while (!deps.signal.aborted) {
    await readSocket(source, deps);
    if (!deps.signal.aborted) deps.onViolation();
  }
}

/** Returns when the signal aborts or libzmq has given the connection up. */
async function readSocket(source: ZmqSource, deps: ZmqReaderDeps): Promise<void> {
  const { clock, ready, onFrames, signal } = deps;
  const socket = new Subscriber({
    context: zmqContext,
    receiveHighWaterMark: RECEIVE_MESSAGES_MAX,
    maxMessageSize: MESSAGE_BYTES_MAX,
    reconnectInterval: 100,
    reconnectMaxInterval: 2000,
    linger: 0,
    ipv6: true,
  });
  let close = (): void => {};
  const aborted = new Promise<void>((resolve) => {
    close = (): void => {
      socket.close();
      resolve();
    };
  });
  signal.addEventListener("abort", close, { once: true });
  try {
    closeWhenGivenUp(socket, clock);
    socket.events.on("handshake", () => {
      if (!signal.aborted) deps.onConnected();
    });
    socket.connect(source.address);
    socket.subscribe(source.topic);
    await Promise.race([ready, aborted]);
    let turnEndMs = clock.nowMs() + TURN_MS_MAX;
    while (!socket.closed) {
      const frames = await receive(socket);
      if (frames === null) break;
      onFrames(frames);
      if (clock.nowMs() < turnEndMs) continue;
      await sleep(clock, 0, signal);
      turnEndMs = clock.nowMs() + TURN_MS_MAX;
    }
  } finally {
    signal.removeEventListener("abort", close);
    if (!socket.closed) socket.close();
  }
}

function closeWhenGivenUp(socket: Subscriber, clock: Clock): void {
  let isRetrying = true;
  socket.events.on("connect:retry", () => {
    isRetrying = true;
  });
  socket.events.on("disconnect", () => {
    isRetrying = false;
    clock.after(RETRY_ANNOUNCED_MS, () => {
      if (!isRetrying && !socket.closed) socket.close();
    });
  });
}

/** Null once the socket is closed: closing makes the pending receive fail. */
async function receive(socket: Subscriber): Promise<readonly Uint8Array[] | null> {
  try {
    return await socket.receive();
  } catch (error) {
    if (socket.closed) return null;
    throw error;
  }
}
