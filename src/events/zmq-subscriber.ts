/**
 * Reads one engine's KV events from its ZMQ PUB socket.
 *
 * The engine binds, we connect; libzmq reconnects by itself. A PUB socket drops what it cannot send,
 * and nothing but the sequence numbers tells. Cost: about 10 us per message.
 */
import { Subscriber } from "zeromq";
import { type Clock, sleep } from "../core/clock.ts";

/** Messages that libzmq holds while the reader is busy: a burst, not a backlog. */
const RECEIVE_MESSAGES_MAX = 100_000;
/** Bytes of one message that libzmq accepts; a larger one closes the connection. */
const MESSAGE_BYTES_MAX = 33_554_432;
/** Messages read in one turn of the event loop, so that a flood does not starve requests. */
const TURN_MESSAGES_MAX = 32;

export interface ZmqSource {
  /** "tcp://host:port" */
  readonly address: string;
  /** Prefix of the topics to read; empty for all. */
  readonly topic: string;
}

/**
 * Connects at once, so that libzmq keeps what arrives, and hands messages over from the moment that
 * `ready` resolves until the signal aborts.
 */
export async function readZmqEvents(
  source: ZmqSource,
  deps: {
    readonly clock: Clock;
    readonly ready: Promise<void>;
    readonly onFrames: (frames: readonly Uint8Array[]) => void;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { clock, ready, onFrames, signal } = deps;
  if (signal.aborted) return;
  const socket = new Subscriber({
    receiveHighWaterMark: RECEIVE_MESSAGES_MAX,
    maxMessageSize: MESSAGE_BYTES_MAX,
    reconnectInterval: 100,
    reconnectMaxInterval: 2000,
    linger: 0,
  });
  const close = (): void => socket.close();
  signal.addEventListener("abort", close, { once: true });
  socket.connect(source.address);
  socket.subscribe(source.topic);
  await ready;
  let turnMessages = 0;
  while (!socket.closed) {
    const frames = await receive(socket);
    if (frames === null) break;
    onFrames(frames);
    turnMessages += 1;
    if (turnMessages % TURN_MESSAGES_MAX === 0) await sleep(clock, 0, signal);
  }
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
