/**
 * In-flight ledger: what this router has sent to each endpoint and has not seen end.
 *
 * It is the main load signal, because it is never late: a scraped value is. A request waits from
 * its dispatch to its first token, then it decodes until it ends. Pure state: the caller brings
 * the time, and every call costs O(1) apart from `expire`.
 */
import { assert } from "../core/assert.ts";
import type { EndpointId } from "../core/ids.ts";

/** Requests in flight through one router; at some 300 bytes each this is about 40 MB. */
const REQUESTS_MAX = 131_072;
/** A request without an end for this long has lost it: 30 minutes. */
const REQUEST_AGE_MS_MAX = 1_800_000;

/** Own requests at one endpoint. An object is never changed: each event makes another one. */
export interface EndpointLoad {
  /** waiting + decoding */
  readonly requests: number;
  /** Requests without first token. */
  readonly waiting: number;
  readonly decoding: number;
  /** Work of the waiting requests as estimated at dispatch, seconds. */
  readonly pendingWorkSeconds: number;
  /**
   * When the service of the oldest waiting request began: when the endpoint became busy, or the
   * last first token. Monotonic ms; null while nothing waits.
   */
  readonly headSinceMs: number | null;
  /** Input tokens of the decoding requests: the context that each engine step reads. */
  readonly contextTokens: number;
  /** Input tokens of all requests, shared prefixes counted once for each request. */
  readonly inflightTokens: number;
  /** Input tokens of all requests that were not cached when dispatched: KV memory they add. */
  readonly uncachedTokens: number;
}

export const IDLE_LOAD: EndpointLoad = Object.freeze({
  requests: 0,
  waiting: 0,
  decoding: 0,
  pendingWorkSeconds: 0,
  headSinceMs: null,
  contextTokens: 0,
  inflightTokens: 0,
  uncachedTokens: 0,
});

export interface Dispatch {
  readonly requestId: string;
  readonly endpointId: EndpointId;
  readonly inputTokens: number;
  /** Part of `inputTokens` that the endpoint must compute. */
  readonly uncachedTokens: number;
  /** Estimated prefill work, tier loads included, seconds >= 0. */
  readonly workSeconds: number;
  /** The popular prefix that the request belongs to; null: none. */
  readonly prefixKey: bigint | null;
  /** Monotonic ms; later dispatches carry the same or a later time. */
  readonly atMs: number;
}

/** Waiting requests of one prefix at one endpoint. */
export interface PrefixWork {
  readonly requests: number;
  /** Sum of their estimated work, seconds. */
  readonly workSeconds: number;
}

/** full: not taken because REQUESTS_MAX are in flight; expired: its end was lost. */
export type LedgerDrop = "full" | "expired";

export interface LedgerOptions {
  readonly requestsMax?: number;
  readonly requestAgeMsMax?: number;
  /** Called with each changed load. */
  readonly onLoad?: (endpointId: EndpointId, load: EndpointLoad) => void;
  readonly onDrop?: (reason: LedgerDrop) => void;
}

interface Entry {
  readonly dispatch: Dispatch;
  isDecoding: boolean;
}

const NO_PREFIX_WORK: ReadonlyMap<EndpointId, PrefixWork> = new Map();

export class Ledger {
  readonly #requestsMax: number;
  readonly #requestAgeMsMax: number;
  readonly #onLoad: (endpointId: EndpointId, load: EndpointLoad) => void;
  readonly #onDrop: (reason: LedgerDrop) => void;
  /** In order of dispatch, oldest first. */
  readonly #entries = new Map<string, Entry>();
  readonly #loads = new Map<EndpointId, EndpointLoad>();
  readonly #prefixes = new Map<bigint, Map<EndpointId, PrefixWork>>();

  constructor(options: LedgerOptions = {}) {
    this.#requestsMax = options.requestsMax ?? REQUESTS_MAX;
    this.#requestAgeMsMax = options.requestAgeMsMax ?? REQUEST_AGE_MS_MAX;
    this.#onLoad = options.onLoad ?? ((): void => {});
    this.#onDrop = options.onDrop ?? ((): void => {});
  }

  /** Requests in flight at all endpoints. */
  get requests(): number {
    return this.#entries.size;
  }

  load(endpointId: EndpointId): EndpointLoad {
    return this.#loads.get(endpointId) ?? IDLE_LOAD;
  }

  /** Waiting work of a prefix by endpoint; a live map that the caller only reads. */
  prefixWork(prefixKey: bigint): ReadonlyMap<EndpointId, PrefixWork> {
    return this.#prefixes.get(prefixKey) ?? NO_PREFIX_WORK;
  }

  /** False when the ledger is full. A request id that is still known is dispatched anew. */
  dispatched(dispatch: Dispatch): boolean {
    assert(dispatch.workSeconds >= 0, "work must not be negative", { work: dispatch.workSeconds });
    this.#remove(dispatch.requestId);
    if (this.#entries.size >= this.#requestsMax) {
      this.#onDrop("full");
      return false;
    }
    this.#entries.set(dispatch.requestId, { dispatch, isDecoding: false });
    const load = this.load(dispatch.endpointId);
    this.#setLoad(dispatch.endpointId, {
      ...load,
      requests: load.requests + 1,
      waiting: load.waiting + 1,
      pendingWorkSeconds: load.pendingWorkSeconds + dispatch.workSeconds,
      headSinceMs: load.waiting === 0 ? dispatch.atMs : load.headSinceMs,
      inflightTokens: load.inflightTokens + dispatch.inputTokens,
      uncachedTokens: load.uncachedTokens + dispatch.uncachedTokens,
    });
    this.#addPrefixWork(dispatch, 1);
    return true;
  }

  /** False when the request is unknown or already decoding. */
  firstToken(requestId: string, atMs: number): boolean {
    const entry = this.#entries.get(requestId);
    if (entry === undefined || entry.isDecoding) return false;
    entry.isDecoding = true;
    const { endpointId, inputTokens } = entry.dispatch;
    const load = this.#withoutWaiting(entry.dispatch);
    this.#setLoad(endpointId, {
      ...load,
      decoding: load.decoding + 1,
      headSinceMs: load.waiting === 0 ? null : atMs,
      contextTokens: load.contextTokens + inputTokens,
    });
    return true;
  }

  /** Ends a request, with or without success. False when it is unknown. */
  ended(requestId: string): boolean {
    return this.#remove(requestId);
  }

  /** Removes the requests older than the age limit; returns how many. Called now and then. */
  expire(nowMs: number): number {
    let expired = 0;
    for (const [requestId, { dispatch }] of this.#entries) {
      if (nowMs - dispatch.atMs <= this.#requestAgeMsMax) break;
      this.#remove(requestId);
      this.#onDrop("expired");
      expired += 1;
    }
    return expired;
  }

  #remove(requestId: string): boolean {
    const entry = this.#entries.get(requestId);
    if (entry === undefined) return false;
    this.#entries.delete(requestId);
    const { dispatch, isDecoding } = entry;
    const load = isDecoding ? this.load(dispatch.endpointId) : this.#withoutWaiting(dispatch);
    this.#setLoad(dispatch.endpointId, {
      ...load,
      requests: load.requests - 1,
      decoding: load.decoding - (isDecoding ? 1 : 0),
      contextTokens: load.contextTokens - (isDecoding ? dispatch.inputTokens : 0),
      inflightTokens: load.inflightTokens - dispatch.inputTokens,
      uncachedTokens: load.uncachedTokens - dispatch.uncachedTokens,
    });
    return true;
  }

  /** The load less one waiting request, whose prefix work ends with its waiting. */
  #withoutWaiting(dispatch: Dispatch): EndpointLoad {
    this.#addPrefixWork(dispatch, -1);
    const load = this.load(dispatch.endpointId);
    const waiting = load.waiting - 1;
    return {
      ...load,
      waiting,
      // Sums of floats drift; an empty queue has no work, whatever the drift.
      pendingWorkSeconds:
        waiting === 0 ? 0 : Math.max(0, load.pendingWorkSeconds - dispatch.workSeconds),
      headSinceMs: waiting === 0 ? null : load.headSinceMs,
    };
  }

  #setLoad(endpointId: EndpointId, load: EndpointLoad): void {
    assert(load.requests === load.waiting + load.decoding, "ledger counts disagree", { ...load });
    if (load.requests === 0) {
      this.#loads.delete(endpointId);
      this.#onLoad(endpointId, IDLE_LOAD);
      return;
    }
    this.#loads.set(endpointId, load);
    this.#onLoad(endpointId, load);
  }

  #addPrefixWork({ prefixKey, endpointId, workSeconds }: Dispatch, sign: 1 | -1): void {
    if (prefixKey === null) return;
    const byEndpoint = this.#prefixes.get(prefixKey) ?? new Map<EndpointId, PrefixWork>();
    const before = byEndpoint.get(endpointId) ?? { requests: 0, workSeconds: 0 };
    const requests = before.requests + sign;
    if (requests === 0) byEndpoint.delete(endpointId);
    else {
      const seconds = Math.max(0, before.workSeconds + sign * workSeconds);
      byEndpoint.set(endpointId, { requests, workSeconds: seconds });
    }
    if (byEndpoint.size === 0) this.#prefixes.delete(prefixKey);
    else this.#prefixes.set(prefixKey, byEndpoint);
  }
}
