/** What goes into and comes out of the session of one ext_proc stream. */
import type { ProcessingRequest__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse } from "./gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import type { EndOfRequest, PickOutcome, PickRequest, RefusalReason } from "./picker.ts";

export type SessionInput =
  | { readonly kind: "message"; readonly message: ProcessingRequest__Output }
  /** Answers the output `pick` or `pick-by-load` of the same name in `by`. */
  | { readonly kind: "picked"; readonly by: "pick" | "load"; readonly outcome: PickOutcome }
  /** The picker rejected. */
  | { readonly kind: "pick-failed" }
  /** The time for `pick` is over. */
  | { readonly kind: "deadline" }
  /** A message came in part: the rest is over the limit, or the budget of bodies has no room. */
  | { readonly kind: "message-lost"; readonly why: "too-large" | "over-budget" }
  /** The peer sends nothing more and reads on. */
  | { readonly kind: "half-closed" }
  /** The peer reset the stream, or the connection is gone. */
  | { readonly kind: "cancelled" };

/** How a stream ended; label of the stream counter. */
export type StreamOutcome =
  /** Routed, and the answer passed to its end. */
  | "complete"
  /** Routed; the gateway does not show the answer. */
  | "routed"
  /** Answered with an ImmediateResponse. */
  | "refused"
  /** The peer gave up before the answer had passed. */
  | "aborted"
  /** Ended with a gRPC error by this side. */
  | "failed";

/**
 * Why the engine's token counts were not read from its answer; label of their counter.
 * - encoded: it is compressed, as the client allowed
 * - absent: it has none in its last TAIL_BYTES_MAX bytes, such as a stream that was not asked for usage
 * - unseen: the gateway does not show answers' bodies
 */
export type UsageUnread = "encoded" | "absent" | "unseen";

/**
 * Why a message was not used; label of the refusal counter beside the refusal reasons.
 * answer-events: the tokens of an answer are not counted any more, beyond ANSWER_EVENTS_MAX.
 */
type CountedReason = RefusalReason | "unknown-message" | "answer-events";

export type SessionOutput =
  | { readonly kind: "send"; readonly response: ProcessingResponse }
  | { readonly kind: "pick"; readonly request: PickRequest }
  | { readonly kind: "pick-by-load"; readonly request: PickRequest }
  /** The outcome of `pick` is no longer wanted. */
  | { readonly kind: "cancel-pick" }
  | {
      readonly kind: "response-started";
      readonly requestId: string;
      readonly status: number;
      readonly servedBy: string | null;
    }
  | { readonly kind: "first-byte"; readonly requestId: string }
  | { readonly kind: "progress"; readonly requestId: string; readonly tokens: number }
  /** Of an answer that passed to its end. */
  | { readonly kind: "usage-unread"; readonly reason: UsageUnread }
  | { readonly kind: "ended"; readonly requestId: string; readonly end: EndOfRequest }
  | { readonly kind: "count"; readonly reason: CountedReason }
  /** Nothing follows. An aborted or failed stream ends with an error status. */
  | { readonly kind: "close"; readonly outcome: StreamOutcome };
