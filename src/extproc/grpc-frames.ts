/** gRPC's framing: each message has a prefix of a compression flag and its length. Pure. */

const PREFIX_BYTES = 5;

/**
 * - compressed: compression was not offered
 * - too-large: longer than allowed
 */
export type FrameRefusal = "compressed" | "too-large";

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
  readonly #messageBytesMax: number;
  readonly #onMessage: (message: Buffer) => void;
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** Bytes that have to be there before anything can be read. */
  #wantedBytes = PREFIX_BYTES;

  constructor(messageBytesMax: number, onMessage: (message: Buffer) => void) {
    this.#messageBytesMax = messageBytesMax;
    this.#onMessage = onMessage;
  }

  get isWithinMessage(): boolean {
    return this.#bytes > 0;
  }

  /** Null: all is well. Messages are views of the bytes that came. */
  push(chunk: Buffer): FrameRefusal | null {
    const bytes = this.#gathered(chunk);
    if (bytes === null) return null;
    let at = 0;
    this.#wantedBytes = PREFIX_BYTES;
    while (bytes.length - at >= PREFIX_BYTES) {
      if (bytes[at] !== 0) return "compressed";
      const end = at + PREFIX_BYTES + bytes.readUInt32BE(at + 1);
      if (end - at - PREFIX_BYTES > this.#messageBytesMax) return "too-large";
      if (end > bytes.length) {
        this.#wantedBytes = end - at;
        break;
      }
      this.#onMessage(bytes.subarray(at + PREFIX_BYTES, end));
      at = end;
    }
    if (at < bytes.length) {
      this.#chunks = [bytes.subarray(at)];
      this.#bytes = bytes.length - at;
    }
    return null;
  }

  /** All bytes that wait, once there are enough of them: each is copied at most twice. */
  #gathered(chunk: Buffer): Buffer | null {
    if (this.#bytes === 0) return chunk;
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes < this.#wantedBytes) return null;
    const bytes = Buffer.concat(this.#chunks, this.#bytes);
    this.#chunks = [];
    this.#bytes = 0;
    return bytes;
  }
}
