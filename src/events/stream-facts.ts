/** What was seen on one holder's live socket, so that events that are missing can be explained. */

/** Bytes of an undecodable payload that are kept: its form shows, and no token ids of size. */
export const SAMPLE_BYTES_MAX = 48;
/** Bytes of a topic that are kept. */
const TOPIC_BYTES_MAX = 512;

export interface UndecodableFacts {
  readonly count: number;
  /** Refusal of the newest one. */
  readonly reason: string;
  /** Its first bytes in hex, at most SAMPLE_BYTES_MAX of them. */
  readonly sampleHex: string;
  /** Monotonic ms. */
  readonly atMs: number;
}

export interface StreamFacts {
  /** Where the socket connects to. */
  readonly address: string;
  /** Since when the socket is followed, monotonic ms. */
  readonly sinceMs: number;
  /** Connections that stood so far. */
  readonly handshakes: number;
  /** Newest message, decodable or not, monotonic ms; null: none. */
  readonly heardMs: number | null;
  /** Topic of the newest message, cut at TOPIC_BYTES_MAX; null: none. */
  readonly topic: string | null;
  /** Null: every message could be decoded. */
  readonly undecodable: UndecodableFacts | null;
  /** Highest rank of events that came here and that nobody follows; null: none. */
  readonly otherRank: number | null;
}

export class StreamWatch {
  readonly #address: string;
  readonly #sinceMs: number;
  #handshakes = 0;
  #heardMs: number | null = null;
  #topicBytes: Uint8Array | null = null;
  #undecodable: UndecodableFacts | null = null;
  #otherRank: number | null = null;

  constructor(address: string, nowMs: number) {
    this.#address = address;
    this.#sinceMs = nowMs;
  }

  connected(): void {
    this.#handshakes += 1;
  }

  heard(frames: readonly Uint8Array[], nowMs: number): void {
    this.#heardMs = nowMs;
    // A message of another form than three frames has no topic to speak of.
    const [topic] = frames;
    if (frames.length === 3 && topic !== undefined) {
      this.#topicBytes =
        topic.length <= TOPIC_BYTES_MAX
          ? topic
          : Uint8Array.from(topic.subarray(0, TOPIC_BYTES_MAX));
    }
  }

  refused(reason: string, payload: Uint8Array, atMs: number): void {
    const sampleHex = Buffer.from(payload.subarray(0, SAMPLE_BYTES_MAX)).toString("hex");
    this.#undecodable = { count: (this.#undecodable?.count ?? 0) + 1, reason, sampleHex, atMs };
  }

  /** A poll was answered. */
  answered(otherRank: number | null): void {
    this.connected();
    this.#otherRank = otherRank;
  }

  facts(): StreamFacts {
    return {
      address: this.#address,
      sinceMs: this.#sinceMs,
      handshakes: this.#handshakes,
      heardMs: this.#heardMs,
      topic: this.#topicBytes === null ? null : Buffer.from(this.#topicBytes).toString("utf8"),
      undecodable: this.#undecodable,
      otherRank: this.#otherRank,
    };
  }

  get heardMs(): number | null {
    return this.#heardMs;
  }
}
