/**
 * Asks an engine's replay socket for what it has sent from a sequence number on.
 *
 * Request of a DEALER: `["", start u64 BE]`. Replies: `["", seq, payload]` (vLLM 0.9 to 0.25) or
 * `["", topic, seq, payload]` (vLLM 0.26 and later, SGLang), oldest first, and an end marker whose
 * sequence is all ones. The engine answers from a bounded buffer: older messages are just missing.
 */
import { Dealer } from "zeromq";
import { type Clock, sleep } from "../core/clock.ts";
import { ok, type Result, refused } from "../core/result.ts";
import type { EventMessage } from "./frames.ts";
import { zmqContext } from "./zmq-context.ts";
import { MESSAGE_BYTES_MAX } from "./zmq-subscriber.ts";

/** Longest wait for the next reply, ms: the engine serves replays between its own steps. */
const REPLY_MS_MAX = 5000;
/** Time in which replies are handed over in one turn of the event loop, ms. */
const TURN_MS_MAX = 2;
/** Replies that are read: engines buffer 10,000 by default. */
const REPLIES_MAX = 1_000_000;
const END_SEQ = 0xffff_ffff_ffff_ffffn;

/** ended: all that the engine has was handed over. failed: no answer, or one that is none. */
export type ReplayOutcome = "ended" | "failed";

/** Hands the replies over one by one; closed by the signal as "failed". */
export async function replayZmqEvents(
  request: { readonly address: string; readonly fromSeq: number },
  deps: {
    readonly clock: Clock;
    readonly onMessage: (message: EventMessage) => void;
    readonly signal: AbortSignal;
  },
): Promise<ReplayOutcome> {
  const { clock, onMessage, signal } = deps;
  if (signal.aborted) return "failed";
  const socket = new Dealer({
    context: zmqContext,
    linger: 0,
    maxMessageSize: MESSAGE_BYTES_MAX,
    receiveTimeout: REPLY_MS_MAX,
    sendTimeout: REPLY_MS_MAX,
    ipv6: true,
  });
  const close = (): void => socket.close();
  signal.addEventListener("abort", close, { once: true });
  try {
    socket.connect(request.address);
    const start = Buffer.alloc(8);
    start.writeBigUInt64BE(BigInt(request.fromSeq));
    if (!(await isSent(socket, [Buffer.alloc(0), start]))) return "failed";
    let turnEndMs = clock.nowMs() + TURN_MS_MAX;
    for (let replies = 0; replies < REPLIES_MAX && !signal.aborted; replies += 1) {
      const frames = await receive(socket);
      const reply = frames === null ? null : parseReply(frames);
      if (reply === null || !reply.ok) return "failed";
      if (reply.value === "end") return "ended";
      onMessage(reply.value);
      if (clock.nowMs() < turnEndMs) continue;
      await sleep(clock, 0, signal);
      turnEndMs = clock.nowMs() + TURN_MS_MAX;
    }
    return "failed";
  } finally {
    signal.removeEventListener("abort", close);
    socket.close();
  }
}

/** Null: no answer in time, or closed by the signal. */
async function receive(socket: Dealer): Promise<readonly Uint8Array[] | null> {
  return await socket.receive().catch(() => null);
}

async function isSent(socket: Dealer, frames: Buffer[]): Promise<boolean> {
  return await socket.send(frames).then(
    () => true,
    () => false,
  );
}

/** Both forms end in sequence and payload. */
export function parseReply(
  frames: readonly Uint8Array[],
): Result<EventMessage | "end", "frame-count" | "sequence-frame"> {
  const sequence = frames.at(-2);
  const payload = frames.at(-1);
  if ((frames.length !== 3 && frames.length !== 4) || !sequence || !payload) {
    return refused("frame-count", `${frames.length} frames, expected 3 or 4`);
  }
  if (sequence.length !== 8) {
    return refused("sequence-frame", `${sequence.length} bytes, expected 8`);
  }
  const seq = new DataView(sequence.buffer, sequence.byteOffset).getBigUint64(0);
  if (seq === END_SEQ) return ok("end");
  if (seq > BigInt(Number.MAX_SAFE_INTEGER)) return refused("sequence-frame", `sequence ${seq}`);
  return ok({ seq: Number(seq), payload });
}
