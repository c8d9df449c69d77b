/**
 * The endpoint-picker protocol of one ext_proc stream, which is one HTTP request.
 *
 * A state machine without clock and I/O: inputs go in, the outputs are carried out in order by
 * grpc-stream.ts. Three request modes:
 *
 * - duplex: the headers' answer is held until the request is whole; then come the headers' answer
 *   with the destination, the body in chunks, and the trailers' answer, in that order.
 * - buffered: the headers are answered at once, the one body message with the destination.
 * - headers-only (the gateway sends no body, or streams it past us): the destination goes with the
 *   headers' answer, and body messages are acknowledged.
 *
 * A request without body is decided on its headers in every mode.
 */
import { assertNever } from "../core/assert.ts";
import type { BodyBudget } from "./body-budget.ts";
import { BodyBuffer } from "./body-buffer.ts";
import type { HttpBody__Output } from "./gen/envoy/service/ext_proc/v3/HttpBody.ts";
import type { HttpHeaders__Output } from "./gen/envoy/service/ext_proc/v3/HttpHeaders.ts";
import type { ProcessingRequest__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProtocolConfiguration__Output } from "./gen/envoy/service/ext_proc/v3/ProtocolConfiguration.ts";
import { type Headers, PREFILLER_KEY, readHeaders, withoutRoutingHeaders } from "./header-map.ts";
import { narrowedSubset, readSubsetHint, TEST_SELECTION_HEADER } from "./metadata-hints.ts";
import type { PickOutcome, PickRequest, Refusal } from "./picker.ts";
import { BODY_BUDGET_SPENT, bodyTooLarge, HEADERS_MISSING, SUBSET_EMPTY } from "./refusals.ts";
import type { ClaimedId } from "./request-ids.ts";
import { ResponsePhase } from "./response-phase.ts";
import { immediateResponse } from "./responses.ts";
import { type RequestMode, requestModeOf, routeAnswer } from "./route-answer.ts";
import type { SessionInput, SessionOutput, StreamOutcome } from "./session-io.ts";

const EMPTY = Buffer.alloc(0);
const OUT_OF_ORDER = { kind: "count", reason: "protocol-order" } as const;
const NO_HEADERS: Headers = { pseudo: new Map(), fields: new Map(), length: 0 };
/** Characters of one request's headers and hints that do not count against the bodies' budget. */
export const UNCOUNTED_HEADERS_MAX = 16_384;

type RequestState =
  /** No message yet. */
  | "waiting"
  /** Headers have come, the end of the request has not. */
  | "collecting"
  /** The picker has been asked. */
  | "picking"
  /** The picker has been asked for a choice by load. */
  | "picking-by-load"
  /** The destination has been sent. */
  | "routed"
  /** The gateway answered by itself before a destination was sent. */
  | "abandoned"
  /** The last output has been given. */
  | "closed";

export interface SessionOptions {
  readonly bodyBytesMax: number;
  /** Shared by all streams. */
  readonly bodyBudget: BodyBudget;
  /** For gateways that do not state their modes. */
  readonly bodyModeDefault: "full-duplex" | "buffered";
  readonly isFallbackNamed: boolean;
  readonly isTestSelectionOn: boolean;
  /** See RequestIds.claim. */
  readonly claimRequestId: (clientId: string | undefined) => ClaimedId;
}

export class Session {
  readonly #options: SessionOptions;
  readonly #body: BodyBuffer;
  #state: RequestState = "waiting";
  #mode: RequestMode = "duplex";
  #isResponseDuplex = true;
  /** Null until it is needed: of requests that wait for their body there can be many. */
  #responsePhase: ResponsePhase | null = null;
  /** Whether the gateway lets the response pass here, so that its end is seen. */
  #responseShown: "yes" | "no" | "unknown" = "unknown";
  #headers: Headers = NO_HEADERS;
  #subset: readonly string[] | null = null;
  #requestId: string | null = null;
  #isOwnId = false;
  #isPrefillClaimed = false;
  #pickRequest: PickRequest | null = null;
  /** The message that the destination answers. */
  #answers: "headers" | "body" | "trailers" = "headers";
  #hasBody = false;
  #hasTrailers = false;
  /** Body messages that came before the destination and want an acknowledgement after it. */
  #bodiesOwed = 0;
  #isHalfClosed = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#body = new BodyBuffer(options.bodyBytesMax, options.bodyBudget);
  }

  /** The id to release when the stream has closed; null before the headers. */
  get requestId(): string | null {
    return this.#requestId;
  }

  /** To be called when the stream has closed, however it did. */
  dispose(): void {
    this.#body.release();
  }

  /** To be called when the peer has taken what it was sent: a body that was sent on has gone. */
  releaseBody(): void {
    const isHeld = this.#state === "waiting" || this.#state === "collecting" || this.#isPicking();
    if (!isHeld) this.#body.release();
  }

  receive(input: SessionInput): SessionOutput[] {
    switch (input.kind) {
      case "message":
        return this.#state === "closed" ? [] : this.#onMessage(input.message);
      case "picked":
        return this.#onPicked(input.by, input.outcome);
      case "pick-failed":
      case "deadline":
        return this.#onPickMissing();
      case "message-lost":
        return this.#onMessageLost(input.why);
      case "half-closed":
        return this.#onHalfClosed();
      case "cancelled":
        return this.#onCancelled();
      default:
        return assertNever(input);
    }
  }

  #onMessage(message: ProcessingRequest__Output): SessionOutput[] {
    if (this.#state === "waiting") this.#readModes(message.protocol_config);
    switch (message.request) {
      case "request_headers":
        return this.#onRequestHeaders(message);
      case "request_body":
        return this.#onRequestBody(message.request_body);
      case "request_trailers":
        return this.#onRequestTrailers();
      case "response_headers":
        return [
          ...this.#abandonRequest(),
          ...this.#response.onHeaders(message.response_headers, message.metadata_context),
        ];
      case "response_body":
        return [...this.#abandonRequest(), ...this.#response.onBody(message.response_body)];
      case "response_trailers":
        return [...this.#abandonRequest(), ...this.#response.onTrailers()];
      default:
        // What it wants for an answer is not known, and leaving it unanswered would hang the
        // request: the gateway's failure mode decides.
        return [
          { kind: "count", reason: "unknown-message" },
          ...this.#cancelPick(),
          ...this.#close("failed"),
        ];
    }
  }

  #readModes(config: ProtocolConfiguration__Output | undefined): void {
    if (config === undefined) {
      const isDuplex = this.#options.bodyModeDefault === "full-duplex";
      this.#mode = isDuplex ? "duplex" : "buffered";
      this.#isResponseDuplex = isDuplex;
      return;
    }
    this.#mode = requestModeOf(config);
    const responseMode = config.response_body_mode ?? "NONE";
    this.#responseShown = responseMode === "NONE" ? "no" : "yes";
    this.#isResponseDuplex = responseMode === "FULL_DUPLEX_STREAMED";
  }

  get #response(): ResponsePhase {
    this.#responsePhase ??= new ResponsePhase({ isDuplex: this.#isResponseDuplex });
    return this.#responsePhase;
  }

  #onRequestHeaders(message: ProcessingRequest__Output): SessionOutput[] {
    if (this.#state !== "waiting") return this.#onHeadersAgain(message);
    const { pseudo, fields, length } = readHeaders(message.request_headers?.headers);
    this.#headers = { pseudo, fields: withoutRoutingHeaders(fields), length };
    this.#isPrefillClaimed = fields.has(PREFILLER_KEY);
    const hint = readSubsetHint(message.metadata_context);
    const isObeyed = this.#options.isTestSelectionOn;
    const selection = isObeyed ? fields.get(TEST_SELECTION_HEADER) : undefined;
    this.#subset = selection === undefined ? hint : narrowedSubset(hint, selection);
    const clientId = fields.get("x-request-id");
    const { requestId, isOwn } = this.#options.claimRequestId(clientId);
    this.#requestId = requestId;
    this.#isOwnId = isOwn && clientId === undefined;
    this.#state = "collecting";
    const refusal = this.#refusalByHeaders(message.request_headers);
    if (refusal !== null) return this.#refuse(refusal);
    const isEnd = message.request_headers?.end_of_stream === true;
    if (isEnd || this.#mode === "headers-only") return this.#pick("headers");
    return this.#mode === "buffered" ? [send({ request_headers: {} })] : [];
  }

  #onHeadersAgain({ request_headers: headers }: ProcessingRequest__Output): SessionOutput[] {
    // They say that nothing follows: who waited for a body would wait for ever.
    if (this.#state === "collecting" && headers?.end_of_stream === true)
      return [OUT_OF_ORDER, ...this.#pick(this.#hasBody ? "body" : "headers")];
    const isAnswered = this.#state === "routed" || this.#state === "abandoned";
    return isAnswered ? [OUT_OF_ORDER, send({ request_headers: {} })] : [OUT_OF_ORDER];
  }

  #refusalByHeaders(message: HttpHeaders__Output | undefined): Refusal | null {
    if (this.#subset !== null && this.#subset.length === 0) return SUBSET_EMPTY;
    const held = (this.#subset ?? []).reduce(
      (sum, each) => sum + each.length,
      this.#headers.length,
    );
    if (!this.#body.reserve(Math.max(0, held - UNCOUNTED_HEADERS_MAX))) return BODY_BUDGET_SPENT;
    const isBodySeen = this.#mode !== "headers-only" && message?.end_of_stream !== true;
    const bytes = Number(this.#headers.fields.get("content-length"));
    return isBodySeen && bytes > this.#options.bodyBytesMax
      ? bodyTooLarge(bytes, this.#options.bodyBytesMax)
      : null;
  }

  #onRequestBody(message: HttpBody__Output | undefined): SessionOutput[] {
    const chunk = message?.body ?? EMPTY;
    if (this.#state === "waiting") return this.#refuse(HEADERS_MISSING);
    if (this.#state !== "collecting") return this.#onLateBody(chunk);
    const kept = this.#body.push(chunk);
    if (kept === "too-large")
      return this.#refuse(bodyTooLarge(this.#body.bytes + chunk.length, this.#body.bytesMax));
    if (kept === "over-budget") return this.#refuse(BODY_BUDGET_SPENT);
    this.#hasBody = true;
    // A buffered body is one message; it lacks end_of_stream when trailers follow.
    const isWhole = this.#mode === "buffered" || message?.end_of_stream === true;
    return isWhole ? this.#pick("body") : [];
  }

  /** The request is already whole, or its body passes without being collected. */
  #onLateBody(chunk: Buffer): SessionOutput[] {
    if (this.#mode === "duplex") return chunk.length === 0 ? [] : [OUT_OF_ORDER];
    if (this.#isPicking()) {
      this.#bodiesOwed += 1;
      return [];
    }
    return [send({ request_body: {} })];
  }

  #onRequestTrailers(): SessionOutput[] {
    if (this.#state === "waiting") return this.#refuse(HEADERS_MISSING);
    if (this.#isPicking()) {
      this.#hasTrailers = true;
      return [];
    }
    if (this.#state !== "collecting") return [send({ request_trailers: {} })];
    this.#hasTrailers = true;
    return this.#pick("trailers");
  }

  #isPicking(): boolean {
    return this.#state === "picking" || this.#state === "picking-by-load";
  }

  #pick(answers: "headers" | "body" | "trailers"): SessionOutput[] {
    this.#answers = answers;
    this.#state = "picking";
    this.#pickRequest = {
      requestId: this.#requestId ?? "",
      method: this.#headers.pseudo.get(":method") ?? "POST",
      path: this.#headers.pseudo.get(":path") ?? "",
      headers: this.#headers.fields,
      body: this.#body.take(),
      subset: this.#subset,
    };
    this.#headers = NO_HEADERS; // Nobody asks for them any more, and an answer takes minutes.
    return [{ kind: "pick", request: this.#pickRequest }];
  }

  #onPickMissing(): SessionOutput[] {
    if (this.#state !== "picking" || this.#pickRequest === null) return [];
    this.#state = "picking-by-load";
    return [{ kind: "cancel-pick" }, { kind: "pick-by-load", request: this.#pickRequest }];
  }

  #onPicked(by: "pick" | "load", outcome: PickOutcome): SessionOutput[] {
    const isWanted = this.#state === (by === "pick" ? "picking" : "picking-by-load");
    if (!isWanted) return this.#onUnwanted(outcome);
    if (outcome.kind === "refuse") return this.#refuse(outcome);
    const requestId = this.#requestId ?? "";
    const request = {
      ...{ mode: this.#mode, answers: this.#answers, bodiesOwed: this.#bodiesOwed },
      ...{ hasBody: this.#hasBody, hasTrailers: this.#hasTrailers },
      body: outcome.body ?? this.#pickRequest?.body ?? EMPTY,
      isBodyChanged: outcome.body !== undefined,
    };
    const outputs: SessionOutput[] = routeAnswer(request, {
      endpointId: outcome.endpointId,
      fallbackId: this.#options.isFallbackNamed ? (outcome.fallbackId ?? null) : null,
      prefillId: outcome.prefillId ?? null,
      isPrefillClaimed: this.#isPrefillClaimed,
      requestId: this.#isOwnId ? requestId : null,
    }).map(send);
    this.#state = "routed";
    this.#pickRequest = null;
    this.#response.routed(requestId);
    return this.#isHalfClosed ? [...outputs, ...this.#closeOrderly()] : outputs;
  }

  /** Where nobody was routed, a booking that slipped in is taken back. */
  #onUnwanted(outcome: PickOutcome): SessionOutput[] {
    const isRouteOpen = this.#state === "abandoned" || this.#state === "closed";
    if (!isRouteOpen || this.#pickRequest === null || outcome.kind === "refuse") return [];
    const { requestId } = this.#pickRequest;
    this.#pickRequest = null;
    return [{ kind: "ended", requestId, end: { outcome: "aborted", usage: null } }];
  }

  #refuse(refusal: Refusal): SessionOutput[] {
    return [
      { kind: "count", reason: refusal.reason },
      send(immediateResponse(refusal)),
      ...this.#close("refused"),
    ];
  }

  /** What is lost was a part of the request, or else of an answer that cannot be refused any more. */
  #onMessageLost(why: "too-large" | "over-budget"): SessionOutput[] {
    if (this.#state === "closed") return [];
    const { bytesMax } = this.#body;
    const refusal = why === "too-large" ? bodyTooLarge(bytesMax + 1, bytesMax) : BODY_BUDGET_SPENT;
    if (this.#state === "waiting" || this.#state === "collecting") return this.#refuse(refusal);
    const counted = { kind: "count", reason: refusal.reason } as const;
    return [counted, ...this.#cancelPick(), ...this.#close("failed")];
  }

  /** A response before the destination was sent: the gateway answered by itself. */
  #abandonRequest(): SessionOutput[] {
    if (this.#state === "routed" || this.#state === "abandoned") return [];
    const outputs = this.#cancelPick();
    this.#state = "abandoned";
    this.#body.take();
    return outputs;
  }

  #onHalfClosed(): SessionOutput[] {
    if (this.#state === "closed") return [];
    this.#isHalfClosed = true;
    if (this.#isPicking()) return [];
    // Gateways that do not state their modes may leave out the end of stream of an empty body;
    // one that does half-closes within a request only when it gives the request up.
    const isWholeRequest =
      this.#state === "collecting" &&
      this.#responseShown === "unknown" &&
      this.#mode === "duplex" &&
      !this.#hasBody;
    return isWholeRequest ? this.#pick("headers") : this.#closeOrderly();
  }

  /** The peer is through: an answer that it never shows counts as complete. */
  #closeOrderly(): SessionOutput[] {
    if (this.#state !== "routed") return this.#close("aborted");
    if (this.#response.state === "done") return this.#close("complete");
    const isHidden =
      this.#responseShown === "no" ||
      (this.#responseShown === "unknown" && this.#response.state === "waiting");
    return this.#close(isHidden ? "routed" : "aborted");
  }

  #onCancelled(): SessionOutput[] {
    if (this.#state === "closed") return [];
    // Envoy resets every stream when its HTTP request is over, so a reset alone is no abort.
    if (this.#state === "routed") {
      if (this.#response.state === "done") return this.#close("complete");
      if (this.#responseShown === "no") return this.#close("routed");
    }
    return [...this.#cancelPick(), ...this.#close("aborted")];
  }

  #cancelPick(): SessionOutput[] {
    return this.#isPicking() ? [{ kind: "cancel-pick" }] : [];
  }

  #close(outcome: StreamOutcome): SessionOutput[] {
    this.#state = "closed";
    this.#body.take();
    const isSeenThrough = outcome === "complete" || outcome === "routed";
    return [
      ...this.#response.end(isSeenThrough ? "complete" : "aborted"),
      { kind: "close", outcome },
    ];
  }
}

function send(
  response: Extract<SessionOutput, { kind: "send" }>["response"],
): Extract<SessionOutput, { kind: "send" }> {
  return { kind: "send", response };
}
