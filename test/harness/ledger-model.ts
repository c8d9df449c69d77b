/** The in-flight ledger as a list: what each request is, and every figure from it. */
import { type EndpointLoad, IDLE_LOAD, remainingSeconds } from "../../src/fleet/endpoint-load.ts";
import type { Dispatch } from "../../src/fleet/ledger.ts";

/** Keeps the plain list of requests and computes every figure anew from it. */
export class LedgerModel {
  static readonly requestsMax = 5;
  #requests: {
    dispatch: Dispatch;
    dueMs: number;
    isDecoding: boolean;
    isAnswered: boolean;
    streamed: number;
  }[] = [];
  /** Instants at which the service of a head began. */
  #heads: { pod: string; atMs: number }[] = [];

  dispatched(added: Dispatch): boolean {
    this.ended(added.requestId);
    if (this.#requests.length >= LedgerModel.requestsMax) return false;
    if (this.#waiting(added.endpointId).length === 0) {
      this.#heads.push({ pod: added.endpointId, atMs: added.atMs });
    }
    const request = { dispatch: added, isDecoding: false, isAnswered: false, streamed: 0 };
    this.#requests.push({ ...request, dueMs: 0 });
    const load = { ...IDLE_LOAD, ...this.load(added.endpointId) };
    const dueMs = added.atMs + 1000 * remainingSeconds(load, added.atMs);
    this.#requests[this.#requests.length - 1] = { ...request, dueMs };
    return true;
  }

  settlePrefills(nowMs: number): void {
    for (const pod of new Set(this.#requests.map(({ dispatch }) => dispatch.endpointId))) {
      for (const one of this.#requests) {
        const { endpointId, isFirstTokenShown } = one.dispatch;
        if (endpointId !== pod || isFirstTokenShown || one.isDecoding) continue;
        if (one.dueMs > nowMs) break;
        one.isDecoding = true;
        this.#heads.push({ pod, atMs: Math.max(one.dueMs, this.#headMs(pod)) });
      }
    }
  }

  firstToken(requestId: string, atMs: number): boolean {
    const request = this.#requests.find((one) => one.dispatch.requestId === requestId);
    if (request === undefined || request.isAnswered) return false;
    request.isAnswered = true;
    if (request.isDecoding) return true;
    const { endpointId: pod, atMs: sentMs, isFirstTokenShown } = request.dispatch;
    for (const one of isFirstTokenShown ? this.#requests : []) {
      const { dispatch: other } = one;
      if (other.endpointId !== pod || other.isFirstTokenShown || one.isDecoding) continue;
      if (other.atMs >= sentMs) break;
      one.isDecoding = true;
    }
    request.isDecoding = true;
    this.#heads.push({ pod, atMs });
    return true;
  }

  progressed(requestId: string): boolean {
    const request = this.#requests.find((one) => one.dispatch.requestId === requestId);
    if (request === undefined) return false;
    request.streamed += 16;
    return true;
  }

  ended(requestId: string): boolean {
    const before = this.#requests.length;
    this.#requests = this.#requests.filter((one) => one.dispatch.requestId !== requestId);
    return this.#requests.length < before;
  }

  expire(nowMs: number): number {
    const before = this.#requests.length;
    this.#requests = this.#requests.filter((one) => nowMs - one.dispatch.atMs <= 50);
    return before - this.#requests.length;
  }

  load(pod: string): Partial<EndpointLoad> {
    const own = this.#requests
      .filter(({ dispatch: { endpointId: id } }) => id === pod)
      .filter((one) => one.dispatch.decodeEndpointId === null || !one.isDecoding);
    const waiting = this.#waiting(pod);
    const decoding = own.filter((one) => one.isDecoding);
    const paired = this.#requests.filter((one) => one.dispatch.decodeEndpointId === pod);
    const tokens = (one: { dispatch: Dispatch; streamed: number }): number =>
      one.dispatch.inputTokens + one.streamed;
    return {
      requests: own.length,
      waiting: waiting.length,
      decoding: decoding.length,
      pendingSeconds: sum(waiting.map((one) => one.workSeconds)),
      ...(waiting.length === 0 ? {} : { headSinceMs: this.#headMs(pod) }),
      contextTokens: sum(decoding.map(tokens)),
      generatedTokens: sum(own.map((one) => one.streamed)),
      blockTokens: 16 * new Set(own.flatMap((one) => [...one.dispatch.keys])).size,
      pairedRequests: paired.length,
      pairedTokens: sum(paired.map(tokens)),
    };
  }

  prefixWork(key: bigint, pod: string): { requests: number; workSeconds: number } | undefined {
    const own = this.#waiting(pod).filter((one) => one.prefixKeys.includes(key));
    if (own.length === 0) return undefined;
    return { requests: own.length, workSeconds: sum(own.map((one) => one.workSeconds)) };
  }

  #headMs(pod: string): number {
    return this.#heads.findLast((h) => h.pod === pod)?.atMs ?? -1;
  }

  #waiting(pod: string): Dispatch[] {
    return this.#requests
      .filter((one) => one.dispatch.endpointId === pod && !one.isDecoding)
      .map((one) => one.dispatch);
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
