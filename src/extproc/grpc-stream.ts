/**
 * Carries out one ext_proc stream: feeds the session with what happens, and does what it says.
 *
 * Whatever fails here, the stream gets an answer or an error: in duplex mode a gateway has no
 * timer of its own, so silence would hang the HTTP request.
 */
import { assertNever } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Deadlines } from "./deadlines.ts";
import type { ProcessingResponse } from "./gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import type { ExtProcCodec } from "./grpc-definition.ts";
import type { FrameLimits, MessageLoss } from "./grpc-frames.ts";
import { type CallEvents, GRPC_STATUS, type Http2GrpcCall } from "./http2-grpc-call.ts";
import type { Picker, PickOutcome, PickRequest } from "./picker.ts";
import type { Session } from "./session.ts";
import type { SessionInput, SessionOutput, StreamOutcome } from "./session-io.ts";

const CLOSE_STATUS: Readonly<Record<StreamOutcome, number>> = {
  complete: GRPC_STATUS.ok,
  routed: GRPC_STATUS.ok,
  refused: GRPC_STATUS.ok,
  aborted: GRPC_STATUS.aborted,
  failed: GRPC_STATUS.internal,
};

export interface StreamDeps {
  readonly codec: ExtProcCodec;
  readonly picker: Picker;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** Time for `pick`. */
  readonly deadlines: Deadlines;
  readonly deadlineMs: number;
  readonly frameLimits: FrameLimits;
  /** Called once, when nothing is left of the session's stream. */
  readonly onClosed: (session: Session) => void;
}

const NOTHING = (): void => {};

export class GrpcStream implements CallEvents {
  readonly #call: Http2GrpcCall;
  readonly #session: Session;
  readonly #deps: StreamDeps;
  /** Of a pick under way. */
  #pickAbort: AbortController | null = null;
  #cancelDeadline: () => void = NOTHING;
  #fallbackReason: "deadline" | "error" = "deadline";
  #pickStartMs = 0;
  #isRouted = false;
  /** The request waited on purpose: that time is no time of deciding. */
  #isHeld = false;
  #isClosed = false;

  constructor(call: Http2GrpcCall, session: Session, deps: StreamDeps) {
    this.#call = call;
    this.#session = session;
    this.#deps = deps;
  }

  start(): void {
    this.#call.start(this.#deps.frameLimits, this);
  }

  onMessage(bytes: Buffer): void {
    this.#receive({ kind: "message", message: this.#deps.codec.decode(bytes) });
  }

  onMessageLost(why: MessageLoss): void {
    this.#receive({ kind: "message-lost", why });
  }

  onHalfClosed(): void {
    this.#receive({ kind: "half-closed" });
  }

  onDrain(): void {
    this.#call.resume();
    this.#releaseTaken();
  }

  onRefused(): void {
    this.#receive({ kind: "cancelled" });
  }

  onClosed(): void {
    this.#receive({ kind: "cancelled" });
    this.#deps.onClosed(this.#session);
  }

  #receive(input: SessionInput): void {
    try {
      const outputs = this.#session.receive(input);
      if (outputs.length === 0) return;
      this.#call.together(() => {
        for (const output of outputs) this.#carryOut(output);
      });
    } catch (reason) {
      this.#fail(reason);
    } finally {
      this.#releaseTaken();
    }
  }

  /** What the gateway was answered and has not read counts against the budget of bodies. */
  #releaseTaken(): void {
    if (!this.#call.isBacklogged) this.#session.releaseBody();
  }

  #carryOut(output: SessionOutput): void {
    switch (output.kind) {
      case "send":
        this.#send(output.response);
        return;
      case "pick":
        void this.#pick(output.request);
        return;
      case "pick-by-load":
        void this.#pickByLoad(output.request);
        return;
      case "cancel-pick":
        this.#cancelPick();
        return;
      case "response-started":
        this.#deps.picker.responseStarted(output.requestId, output.status, output.servedBy);
        return;
      case "first-byte":
        this.#deps.picker.firstByte(output.requestId);
        return;
      case "progress":
        this.#deps.picker.progressed(output.requestId, output.tokens);
        return;
      case "usage-unread":
        this.#deps.meter.count("kvatlas_extproc_usage_unread_total", { reason: output.reason });
        return;
      case "ended":
        this.#deps.picker.ended(output.requestId, output.end);
        return;
      case "count":
        this.#deps.meter.count("kvatlas_extproc_refused_total", { reason: output.reason });
        return;
      case "close":
        this.#close(output.outcome);
        return;
      default:
        assertNever(output);
    }
  }

  #send(response: ProcessingResponse): void {
    if (this.#isClosed) return;
    // A gateway that does not read gets no more read from it: memory stays bounded.
    if (!this.#call.write(...this.#deps.codec.encode(response))) this.#call.pause();
  }

  async #pick(request: PickRequest): Promise<void> {
    const { picker, clock, deadlines } = this.#deps;
    const abort = new AbortController();
    try {
      this.#pickAbort = abort;
      this.#pickStartMs = clock.nowMs();
      this.#cancelDeadline = deadlines.add(() => {
        abort.abort(new DOMException("no decision in time", "TimeoutError"));
        this.#receive({ kind: "deadline" });
      });
      const onHeld = (): void => {
        this.#cancelDeadline();
        this.#isHeld = true;
      };
      const outcome = await picker.pick(request, abort.signal, onHeld);
      this.#pickAbort = null;
      this.#cancelDeadline();
      this.#onPicked("pick", outcome);
    } catch (reason) {
      this.#cancelDeadline();
      if (abort.signal.aborted) return;
      this.#fallbackReason = "error";
      this.#deps.log.error(
        { request_id: request.requestId, error: messageOf(reason) },
        "decision failed",
      );
      this.#receive({ kind: "pick-failed" });
    }
  }

  #cancelPick(): void {
    this.#cancelDeadline();
    this.#pickAbort?.abort();
    this.#pickAbort = null;
  }

  async #pickByLoad(request: PickRequest): Promise<void> {
    let outcome: PickOutcome;
    try {
      outcome = await this.#deps.picker.pickByLoad(request);
    } catch (reason) {
      this.#deps.log.error(
        { request_id: request.requestId, error: messageOf(reason) },
        "choice by load failed",
      );
      const message = "the router cannot choose an endpoint";
      outcome = { kind: "refuse", status: 503, reason: "picker-failed", message };
    }
    this.#tellFallback(request, outcome);
    this.#onPicked("load", outcome);
  }

  /** Told once it is known what the choice was made by. */
  #tellFallback({ requestId }: PickRequest, outcome: PickOutcome): void {
    const { log, meter, deadlineMs } = this.#deps;
    const reason = this.#fallbackReason;
    const by = outcome.kind === "refuse" ? "none" : (outcome.chosenBy ?? "load");
    meter.count("kvatlas_extproc_fallbacks_total", { reason, by });
    if (reason === "error") return;
    const fields = { request_id: requestId, deadline_ms: deadlineMs, chosen_by: by };
    log.warn(fields, "decision late, made without the prompt's tokens");
  }

  #onPicked(by: "pick" | "load", outcome: PickOutcome): void {
    if (!this.#isClosed && !this.#isRouted) {
      if (!this.#isHeld) this.#observeDecision();
      this.#isRouted = true;
    }
    this.#receive({ kind: "picked", by, outcome });
  }

  #observeDecision(): void {
    const { meter, clock } = this.#deps;
    meter.observe("kvatlas_decision_seconds", {}, (clock.nowMs() - this.#pickStartMs) / 1000);
  }

  /** A fault of ours: the gateway's failure mode decides about the request. */
  #fail(reason: unknown): void {
    this.#deps.log.error(
      { request_id: this.#session.requestId, error: messageOf(reason) },
      "ext_proc stream failed",
    );
    if (this.#isClosed) return;
    this.#close("failed");
    // The picker hears of the end; what else the session wants to send has no place to go.
    this.#receive({ kind: "cancelled" });
  }

  #close(outcome: StreamOutcome): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelPick();
    this.#deps.meter.count("kvatlas_extproc_streams_total", { outcome });
    const details =
      outcome === "failed" || outcome === "aborted" ? `ext_proc stream ${outcome}` : "";
    this.#call.end({ code: CLOSE_STATUS[outcome], details });
  }
}
