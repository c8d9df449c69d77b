/** The newest batches of one publisher, and the replies that vLLM's replay socket makes of them. */
import { assert } from "../../core/assert.ts";
import { seqFrame } from "./seq-frame.ts";

/**
 * `seq`: vLLM up to 0.25 answers [seq, payload]. `topic-seq`: vLLM from 0.26, and SGLang 0.5.23,
 * answer [topic, seq, payload].
 */
export type ReplayForm = "seq" | "topic-seq";

/** In place of a sequence number: nothing follows. */
const END_SEQ = Buffer.alloc(8, 0xff);
const EMPTY = Buffer.alloc(0);

interface BufferedBatch {
  readonly seq: number;
  readonly payload: Uint8Array;
}

export class ReplayBuffer {
  readonly #batchesMax: number;
  readonly #ring: BufferedBatch[] = [];
  /** Where the next batch goes once the ring is full: its oldest. */
  #oldest = 0;

  /** Holds the newest `batchesMax` batches, 1 and more. */
  constructor(batchesMax: number) {
    assert(batchesMax >= 1, "a replay buffer holds at least one batch", { batchesMax });
    this.#batchesMax = batchesMax;
  }

  push(seq: number, payload: Uint8Array): void {
    if (this.#ring.length < this.#batchesMax) this.#ring.push({ seq, payload });
    else {
      this.#ring[this.#oldest] = { seq, payload };
      this.#oldest = (this.#oldest + 1) % this.#batchesMax;
    }
  }

  /**
   * The replies to a request, behind the client's identity: every batch from `startSeq`, in the order
   * in which they were published, then the end marker. Missing ones are left out without a word.
   */
  replies(
    startSeq: bigint,
    options: { readonly form: ReplayForm; readonly topic: Uint8Array },
  ): Uint8Array[][] {
    const hasTopic = options.form === "topic-seq";
    const replies: Uint8Array[][] = [];
    for (let index = 0; index < this.#ring.length; index++) {
      const batch = this.#ring[(this.#oldest + index) % this.#ring.length];
      if (batch === undefined || BigInt(batch.seq) < startSeq) continue;
      const frames = [seqFrame(batch.seq), batch.payload];
      replies.push(hasTopic ? [EMPTY, options.topic, ...frames] : [EMPTY, ...frames]);
    }
    replies.push(hasTopic ? [EMPTY, EMPTY, END_SEQ, EMPTY] : [EMPTY, END_SEQ, EMPTY]);
    return replies;
  }
}
