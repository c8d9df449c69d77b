/** gRPC's framing: each message has a prefix of a compression flag and its length. Pure. */
import type { BodyBudget } from "./body-budget.ts";

const PREFIX_BYTES = 5;

/**
 * - compressed: compression was not offered
 * - too-large: longer than allowed
 * - over-budget: the bytes that all half messages hold are over their budget
 */
export type FrameRefusal = "compressed" | MessageLoss;
/** Why a message that is well-formed so far is not taken. */
export type MessageLoss = "too-large" | "over-budget";

/**
 * Bytes of a half message beyond which they count against the budget: a gateway's chunk of 64 KiB with
 * what stands around it does not, so that answers under way pass whatever the budget.
 */
const UNCOUNTED_BYTES_MAX = 66_560;

export interface FrameLimits {
  readonly messageBytesMax: number;
  /** Null: messages are too short to count. */
  readonly budget: BodyBudget | null;
}

/** Longer messages are sent in their parts, shorter ones are copied into one. */
const COPIED_BYTES_MAX = 4096;

/** A message in its frame, as buffers to be sent one after the other. */
export function frameParts(parts: readonly Uint8Array[]): readonly Uint8Array[] {
  const bytes = parts.reduce((sum, { length }) => sum + length, 0);
  const [head, ...rest] = parts;
  if (bytes <= COPIED_BYTES_MAX || head === undefined) return [joined(parts, bytes)];
  return [joined([head], bytes), ...rest.filter(({ length }) => length > 0)];
}

export function framed(message: Uint8Array): Buffer {
  return joined([message], message.length);
}

/** `bytes`: of the whole message, of which `parts` are the beginning. */
function joined(parts: readonly Uint8Array[], bytes: number): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, PREFIX_BYTES);
  const frame = Buffer.allocUnsafe(length);
  frame[0] = 0;
  frame.writeUInt32BE(bytes, 1);
  let at = PREFIX_BYTES;
  for (const part of parts) {
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}

/** Puts messages together again, wherever the bytes were cut. Keeps no more than one message. */
export class FrameReader {
  readonly #limits: FrameLimits;
  readonly #onMessage: (message: Buffer) => void;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #reservedBytes = 0;
  /** Bytes that have to be there before anything can be read. */
  #wantedBytes = PREFIX_BYTES;

  constructor(limits: FrameLimits, onMessage: (message: Buffer) => void) {
    this.#limits = limits;
    this.#onMessage = onMessage;
  }

  get isWithinMessage(): boolean {
    return this.#bytes > 0;
  }

  /** Null: all is well; otherwise the reader is of no more use. Messages are views of what came. */
  push(chunk: Buffer): FrameRefusal | null {
    if (this.#bytes === 0) return this.#read(chunk);
    if (this.#bytes + chunk.length >= this.#wantedBytes) return this.#read(this.#joined(chunk));
    return this.#keep(chunk) ? null : "over-budget";
  }

  /** To be called when no more comes. */
  release(): void {
    this.#chunks = [];
    this.#bytes = 0;
    this.#limits.budget?.release(this.#reservedBytes);
    this.#reservedBytes = 0;
  }

  #read(bytes: Buffer): FrameRefusal | null {
    let at = 0;
    this.#wantedBytes = PREFIX_BYTES;
    while (bytes.length - at >= PREFIX_BYTES) {
      if (bytes[at] !== 0) return "compressed";
      const end = at + PREFIX_BYTES + bytes.readUInt32BE(at + 1);
      if (end - at - PREFIX_BYTES > this.#limits.messageBytesMax) return "too-large";
      if (end > bytes.length) {
        this.#wantedBytes = end - at;
        break;
      }
      this.#onMessage(bytes.subarray(at + PREFIX_BYTES, end));
      at = end;
    }
    return at === bytes.length || this.#keep(bytes.subarray(at)) ? null : "over-budget";
  }

  /** What came counts, not what its prefix says will: who sends nothing more takes nothing. */
  #keep(chunk: Buffer): boolean {
    const { budget } = this.#limits;
    const counted = Math.max(0, this.#bytes + chunk.length - UNCOUNTED_BYTES_MAX);
    const more = counted - this.#reservedBytes;
    if (budget !== null && more > 0) {
      if (!budget.reserve(more)) return false;
      this.#reservedBytes = counted;
    }
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    return true;
  }

  /** All bytes that wait, and these: each is copied at most twice. */
  #joined(chunk: Buffer): Buffer {
    const bytes = Buffer.concat([...this.#chunks, chunk], this.#bytes + chunk.length);
    this.release();
    return bytes;
  }
}
