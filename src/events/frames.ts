/** The ZMQ multipart message of vLLM and SGLang: `[topic] [sequence u64 big endian] [payload]`. */
import { ok, type Result, refused } from "../core/result.ts";

export interface EventMessage {
  /** Counts the engine's messages from 0. */
  readonly seq: number;
  readonly payload: Uint8Array;
}

/**
 * - frame-count: not three frames
 * - sequence-frame: the second frame is not 8 bytes, or beyond 2^53
 */
export type FrameRefusal = "frame-count" | "sequence-frame";

export function parseFrames(frames: readonly Uint8Array[]): Result<EventMessage, FrameRefusal> {
  const [, sequence, payload] = frames;
  if (frames.length !== 3 || sequence === undefined || payload === undefined) {
    return refused("frame-count", `${frames.length} frames, expected 3`);
  }
  if (sequence.length !== 8) {
    return refused("sequence-frame", `${sequence.length} bytes, expected 8`);
  }
  const seq = new DataView(sequence.buffer, sequence.byteOffset).getBigUint64(0);
  if (seq > BigInt(Number.MAX_SAFE_INTEGER)) return refused("sequence-frame", `sequence ${seq}`);
  return ok({ seq: Number(seq), payload });
}
