/** Times of answers as their tokens show them: to the first one, and between them. */
import type { Meter } from "../core/meter.ts";
import type { EndOfRequest } from "../extproc/picker.ts";

/** An answer that is streamed, or is one token. */
interface ShownAnswer {
  readonly sentMs: number;
  /** Null: no byte of it has come. */
  firstMs: number | null;
  streamedTokens: number;
}

export class AnswerTimes {
  readonly #meter: Meter;
  /** By request, as many as the edge has streams. */
  readonly #open = new Map<string, ShownAnswer>();

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  sent(requestId: string, nowMs: number): void {
    this.#open.set(requestId, { sentMs: nowMs, firstMs: null, streamedTokens: 0 });
  }

  refused(requestId: string): void {
    this.#open.delete(requestId);
  }

  firstByte(requestId: string, nowMs: number): void {
    const answer = this.#open.get(requestId);
    if (answer === undefined || answer.firstMs !== null) return;
    answer.firstMs = nowMs;
    this.#meter.observe("kvatlas_ttft_seconds", {}, (nowMs - answer.sentMs) / 1000);
  }

  progressed(requestId: string, tokens: number): void {
    const answer = this.#open.get(requestId);
    if (answer !== undefined) answer.streamedTokens += tokens;
  }

  /** An engine that does not tell how many tokens it made is believed what was seen to stream. */
  ended(requestId: string, { outcome, usage }: EndOfRequest, nowMs: number): void {
    const answer = this.#open.get(requestId);
    this.#open.delete(requestId);
    if (answer === undefined || answer.firstMs === null || outcome !== "complete") return;
    const tokens = usage?.completionTokens ?? answer.streamedTokens;
    if (tokens < 2) return;
    const seconds = (nowMs - answer.firstMs) / 1000;
    this.#meter.observe("kvatlas_tpot_seconds", {}, seconds / (tokens - 1));
  }
}
