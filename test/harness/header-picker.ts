/** A picker that does what a request's headers say, and keeps what it is told. */
import { sleep } from "../../src/core/clock.ts";
import { endpointId } from "../../src/core/ids.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import type { EndOfRequest, Picker, PickOutcome, PickRequest } from "../../src/extproc/picker.ts";

interface Seen {
  readonly request: PickRequest;
  servedBy: string | null;
  status: number;
  firstBytes: number;
  streamedTokens: number;
  ends: EndOfRequest[];
}

/**
 * `x-test-pick`: index of the endpoint, or what else to do. By load it takes the last one. `x-test-body`:
 * what goes on in the body's place.
 */
export class HeaderPicker implements Picker {
  readonly seen = new Map<string, Seen>();
  endpoints: readonly string[] = [];

  async pick(request: PickRequest, signal: AbortSignal): Promise<PickOutcome> {
    this.seen.set(request.requestId, {
      request,
      servedBy: null,
      status: 0,
      firstBytes: 0,
      streamedTokens: 0,
      ends: [],
    });
    const wanted = request.headers.get("x-test-pick") ?? "0";
    if (wanted === "throw") throw new Error("picker fails");
    if (wanted === "hang") await sleep(nodeClock, 60_000, signal);
    if (wanted === "shed") {
      return { kind: "refuse", status: 429, reason: "overloaded", message: "later" };
    }
    const allowed = this.endpoints.filter((each) => request.subset?.includes(each) ?? true);
    const address = request.subset === null ? allowed[Number(wanted)] : allowed[0];
    if (address === undefined) {
      return { kind: "refuse", status: 503, reason: "no-ready-endpoint", message: "none" };
    }
    const body = request.headers.get("x-test-body");
    const change = body === undefined ? {} : { body: Buffer.from(body) };
    return { kind: "route", endpointId: endpointId(address), ...change };
  }

  pickByLoad(): PickOutcome {
    return { kind: "route", endpointId: endpointId(this.endpoints.at(-1) ?? "") };
  }

  responseStarted(requestId: string, status: number, servedBy: string | null): void {
    Object.assign(this.#of(requestId), { status, servedBy });
  }

  firstByte(requestId: string): void {
    this.#of(requestId).firstBytes += 1;
  }

  progressed(requestId: string, tokens: number): void {
    this.#of(requestId).streamedTokens += tokens;
  }

  ended(requestId: string, end: EndOfRequest): void {
    this.#of(requestId).ends.push(end);
  }

  #of(requestId: string): Seen {
    const seen = this.seen.get(requestId);
    if (seen === undefined) throw new Error(`unknown request ${requestId}`);
    return seen;
  }
}
