/** gRPC's framing: each message has a prefix of a compression flag and its length. Pure. */

const PREFIX_BYTES = 5;

/**
 * - compressed: compression was not offered
 * - too-large: longer than allowed
 */
export type FrameRefusal = "compressed" | "too-large";

export function framed(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, PREFIX_BYTES);
  return bytes;
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
