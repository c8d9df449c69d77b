/**
 * The response half of an ext_proc stream: every message is answered at once and unchanged, and
 * the picker hears when the answer starts, when its first token passes, how its tokens stream, and
 * when it ends.
 */
import { EventCount } from "./event-count.ts";
import { FirstToken } from "./first-token.ts";
import type { HttpBody__Output } from "./gen/envoy/service/ext_proc/v3/HttpBody.ts";
import type { HttpHeaders__Output } from "./gen/envoy/service/ext_proc/v3/HttpHeaders.ts";
import type { Metadata__Output } from "./gen/envoy/service/ext_proc/v3/Metadata.ts";
import { readHeaders } from "./header-map.ts";
import { readServedBy } from "./metadata-hints.ts";
import type { EndOfRequest } from "./picker.ts";
import { streamedChunks } from "./responses.ts";
import type { SessionOutput, UsageUnread } from "./session-io.ts";
import { UsageTail } from "./usage-tail.ts";

const EMPTY = Buffer.alloc(0);
/** Statuses from here on are no answers of a model. */
const REFUSED_STATUS_MIN = 300;

export type ResponseState =
  /** No message of the response has come. */
  | "waiting"
  /** Headers have come, the end has not. */
  | "passing"
  /** The end has passed. */
  | "done";

export class ResponsePhase {
  /** True: body chunks are sent back; false: they are acknowledged. */
  readonly #isDuplex: boolean;
  readonly #usageTail = new UsageTail();
  readonly #eventCount = new EventCount();
  readonly #firstToken = new FirstToken();
  #state: ResponseState = "waiting";
  #status = 0;
  #isEncoded = false;
  #isBodySeen = false;
  /** Set while a route has been given out and the picker has not heard of its end. */
  #requestId: string | null = null;

  constructor(options: { readonly isDuplex: boolean }) {
    this.#isDuplex = options.isDuplex;
  }

  get state(): ResponseState {
    return this.#state;
  }

  /** From here on the picker is told about the response. */
  routed(requestId: string): void {
    this.#requestId = requestId;
  }

  onHeaders(
    message: HttpHeaders__Output | undefined,
    metadata: Metadata__Output | undefined,
  ): SessionOutput[] {
    const outputs: SessionOutput[] = [{ kind: "send", response: { response_headers: {} } }];
    if (this.#state !== "waiting") outputs.push({ kind: "count", reason: "protocol-order" });
    else {
      const { pseudo, fields } = readHeaders(message?.headers);
      const encoding = fields.get("content-encoding") ?? "identity";
      this.#status = statusOf(pseudo.get(":status"));
      this.#isEncoded = encoding !== "identity";
      if (this.#requestId !== null) {
        outputs.push({
          kind: "response-started",
          requestId: this.#requestId,
          status: this.#status,
          servedBy: readServedBy(metadata),
        });
      }
      this.#state = "passing";
    }
    if (message?.end_of_stream === true) outputs.push(...this.#finish());
    return outputs;
  }

  onBody(message: HttpBody__Output | undefined): SessionOutput[] {
    const chunk = message?.body ?? EMPTY;
    const isEnd = message?.end_of_stream === true;
    const outputs = this.#echo(chunk, isEnd);
    // A second end is an empty repetition; bytes outside the response are a breach of order.
    if (this.#state !== "passing" && chunk.length > 0) {
      outputs.push({ kind: "count", reason: "protocol-order" });
    }
    if (this.#firstToken.push(chunk) && this.#requestId !== null) {
      outputs.push({ kind: "first-byte", requestId: this.#requestId });
    }
    this.#isBodySeen = true;
    if (!this.#isEncoded) this.#usageTail.push(chunk);
    outputs.push(...this.#progress(chunk));
    if (isEnd) outputs.push(...this.#finish());
    return outputs;
  }

  onTrailers(): SessionOutput[] {
    return [{ kind: "send", response: { response_trailers: {} } }, ...this.#finish()];
  }

  /** Tells the picker of the end where it has not heard of it. */
  end(outcome: EndOfRequest["outcome"]): SessionOutput[] {
    if (this.#requestId === null) return [];
    const requestId = this.#requestId;
    this.#requestId = null;
    const usage = this.#usageTail.read();
    const ended = { kind: "ended", requestId, end: { outcome, usage } } as const;
    const isDue = usage === null && outcome === "complete" && this.#status < REFUSED_STATUS_MIN;
    return isDue ? [{ kind: "usage-unread", reason: this.#unreadReason() }, ended] : [ended];
  }

  #unreadReason(): UsageUnread {
    if (!this.#isBodySeen) return "unseen";
    return this.#isEncoded ? "encoded" : "absent";
  }

  #progress(chunk: Buffer): SessionOutput[] {
    if (this.#requestId === null) return [];
    const wasFull = this.#eventCount.isFull;
    const tokens = this.#eventCount.push(chunk);
    const outputs: SessionOutput[] = [];
    if (tokens > 0) outputs.push({ kind: "progress", requestId: this.#requestId, tokens });
    if (this.#eventCount.isFull && !wasFull)
      outputs.push({ kind: "count", reason: "answer-events" });
    return outputs;
  }

  #echo(chunk: Buffer, isEnd: boolean): SessionOutput[] {
    if (!this.#isDuplex) return [{ kind: "send", response: { response_body: {} } }];
    const chunks = streamedChunks(chunk, isEnd);
    return chunks.map((response) => ({ kind: "send", response: { response_body: { response } } }));
  }

  #finish(): SessionOutput[] {
    this.#state = "done";
    return this.end("complete");
  }
}

/** The HTTP status; 0 when the gateway does not say. */
function statusOf(text: string | undefined): number {
  const status = Number(text);
  return Number.isInteger(status) ? status : 0;
}
