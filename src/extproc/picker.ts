/**
 * The port between the Envoy edge and whatever decides: a request in, a destination or a refusal
 * out, and the phases of the response afterwards.
 */
import type { EndpointId } from "../core/ids.ts";

export interface PickRequest {
  /** Unique among the open streams; the key of the calls that follow. */
  readonly requestId: string;
  readonly method: string;
  /** With query string, as received; empty when the gateway does not tell it. */
  readonly path: string;
  /** Names in lower case. Routing headers that a client sent are not in it, pseudo headers neither. */
  readonly headers: ReadonlyMap<string, string>;
  /** Whole and unmodified. The picker must not write to it: the same bytes go to the endpoint. */
  readonly body: Uint8Array;
  /** What the gateway allows: "host" or "host:port" entries, never empty. Null: no restriction. */
  readonly subset: readonly string[] | null;
}

/** Why a request is answered here and does not reach an endpoint; label of the refusal counter. */
export type RefusalReason =
  /** No endpoint of the pool is ready. */
  | "no-ready-endpoint"
  /** The gateway's subset hint names no ready endpoint. */
  | "subset-empty"
  /** Shed because of load. */
  | "overloaded"
  /** The body is over `bodyBytesMax`. */
  | "body-too-large"
  /** All bodies that wait for a decision are over `bodiesBytesMax`. */
  | "body-budget"
  /** The peer broke the order of messages before the request was whole. */
  | "protocol-order"
  /** Neither `pick` nor `pickByLoad` gave an answer. */
  | "picker-failed";

export type RefusalStatus = 400 | 413 | 429 | 503;

export type PickOutcome =
  | {
      readonly kind: "route";
      readonly endpointId: EndpointId;
      /** Prefills for it, where the request is split; absent: it serves the whole request. */
      readonly prefillId?: EndpointId;
      /** Where a gateway may retry; absent: nowhere else. */
      readonly fallbackId?: EndpointId;
      /**
       * Of `pickByLoad`: what it went by after all. text: by chunks of the prompt's text; old-load: by
       * load as it was a moment ago, since nobody could be asked; absent: by load alone.
       */
      readonly chosenBy?: "text" | "old-load";
      /** Goes to the endpoint in place of the body that came; absent: that one goes, unchanged. */
      readonly body?: Uint8Array;
    }
  | {
      readonly kind: "refuse";
      readonly status: RefusalStatus;
      readonly reason: RefusalReason;
      /** For the client; no prompt text. */
      readonly message: string;
    };

export type Refusal = Extract<PickOutcome, { kind: "refuse" }>;

/** Token counts that the engine reported in its answer. */
export interface Usage {
  readonly promptTokens: number;
  /** Null when the engine did not say. */
  readonly cachedTokens: number | null;
  readonly completionTokens: number | null;
}

export interface EndOfRequest {
  /** complete: the answer passed to its end, or its end was not to be seen here. aborted: cut. */
  readonly outcome: "complete" | "aborted";
  readonly usage: Usage | null;
}

/**
 * For every route given out, `ended` is called exactly once; the other phases before it:
 * `progressed` any number of times, the others at most once. A call with an unknown request id has no effect. No method may throw on its input.
 */
export interface Picker {
  /**
   * When the signal aborts, its outcome is ignored: it must then not book the request. `onHeld`: the
   * request waits on purpose, within the picker's own bounds; the deadline no longer holds.
   */
  pick(request: PickRequest, signal: AbortSignal, onHeld: () => void): Promise<PickOutcome>;
  /** Without waiting for the prompt's tokens: when `pick` missed the deadline or threw. */
  pickByLoad(request: PickRequest): PickOutcome | Promise<PickOutcome>;
  /** `servedBy` is the endpoint that answered, when the gateway reports it. */
  responseStarted(requestId: string, status: number, servedBy: string | null): void;
  /** Of what is generated: what a stream tells before that does not count (first-token.ts). */
  firstByte(requestId: string): void;
  /** About so many more tokens were streamed; told in batches (event-count.ts). */
  progressed(requestId: string, tokens: number): void;
  ended(requestId: string, end: EndOfRequest): void;
}
