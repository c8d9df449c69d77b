/**
 * In-flight ledger: what this router has sent to each endpoint and has not seen end.
 *
 * It is the main load signal, because it is never late: a scraped value is. A request waits from
 * its dispatch to its first token, then it decodes until it ends. Of an answer that comes only when it
 * is whole, the first token is not seen: it waits for as long as the work up to its own is estimated to
 * take, and teaches no speed. In fleets with prefill and decode
 * endpoints it leaves the prefill endpoint with its first token, and is at its decode endpoint from
 * dispatch to end. The caller brings the time; a call costs O(1), and the blocks of its request.
 */
import { assert } from "../core/assert.ts";
import type { EndpointId } from "../core/ids.ts";
import { type EndpointLoad, IDLE_LOAD, remainingSeconds, WARMUP_ANSWERS } from "./endpoint-load.ts";
import { type PrefixWork, PrefixWorks } from "./prefix-works.ts";
import { learn, type SpeedEvidence, settleSpeeds } from "./speeds.ts";

/** Requests in flight through one router; at some 300 bytes each this is about 40 MB. */
const REQUESTS_MAX = 131_072;
/** Blocks of all requests in flight, shared ones counted for each: 32 MB of keys. */
const REQUEST_BLOCKS_MAX = 4_194_304;
/** A request without an end for this long has lost it: 30 minutes. */
const REQUEST_AGE_MS_MAX = 1_800_000;

/** Mean work of a request before any was routed, seconds, and the weight of each later one. */
const WORK_MEAN_SECONDS = 0.2;
const WORK_MEAN_RATE = 0.02;
/** Mean answer before any has ended, tokens, and the weight of each later one. */
const OUTPUT_MEAN_TOKENS = 256;
const OUTPUT_MEAN_RATE = 0.02;

export interface Dispatch {
  readonly requestId: string;
  readonly endpointId: EndpointId;
  /** Where it decodes; null: where it is prefilled. */
  readonly decodeEndpointId: EndpointId | null;
  readonly inputTokens: number;
  /** Keys of the prompt's full blocks; empty when they are not known. */
  readonly keys: BigUint64Array;
  /** Tokens per block of `keys`. */
  readonly blockSizeTokens: number;
  /** Estimated prefill work, tier loads included, seconds of a nominal endpoint, >= 0. */
  readonly workSeconds: number;
  /** Prefixes whose waiting work the request adds to. */
  readonly prefixKeys: readonly bigint[];
  /** Whether `firstToken` will tell of its first token; else it tells when all is generated. */
  readonly isFirstTokenShown: boolean;
  /** Monotonic ms; later dispatches carry the same or a later time. */
  readonly atMs: number;
}

/** Counts the blocks of requests in flight by endpoint; both return how many distinct ones it has. */
export interface InflightKeys {
  add(endpointId: EndpointId, keys: BigUint64Array): number;
  remove(endpointId: EndpointId, keys: BigUint64Array): number;
}

/** full: not taken because REQUESTS_MAX are in flight; expired: its end was lost. */
export type LedgerDrop = "full" | "expired";

export interface LedgerOptions {
  readonly blocks: InflightKeys;
  /** Work that other routers' requests had done at an endpoint, as far as told, seconds; only grows. */
  readonly peersServedSeconds?: (endpointId: EndpointId) => number;
  readonly requestsMax?: number;
  readonly requestBlocksMax?: number;
  readonly requestAgeMsMax?: number;
  readonly onDrop?: (reason: LedgerDrop) => void;
}

interface Entry {
  readonly dispatch: Dispatch;
  /** Empty when REQUEST_BLOCKS_MAX did not leave room for them. */
  readonly keys: BigUint64Array;
  /** Estimated end of its prefill, monotonic ms. */
  readonly dueMs: number;
  isDecoding: boolean;
  isAnswered: boolean;
  streamedTokens: number;
}

type Load = { -readonly [Field in keyof EndpointLoad]: EndpointLoad[Field] } & SpeedEvidence & {
    /** What other routers' requests had done by `headSinceMs`, seconds. */
    headPeersSeconds: number;
  };

const NO_KEYS = new BigUint64Array(0);

export class Ledger {
  readonly #options: Required<LedgerOptions>;
  /** In order of dispatch, oldest first. */
  readonly #entries = new Map<string, Entry>();
  readonly #loads = new Map<EndpointId, Load>();
  /** Waiting requests whose first token is not shown, in order of dispatch. */
  readonly #unseen = new Map<EndpointId, Set<Entry>>();
  readonly #prefixWorks = new PrefixWorks();
  #requestBlocks = 0;
  #hasLearned = false;
  #workMeanSeconds = WORK_MEAN_SECONDS;
  #outputMeanTokens = OUTPUT_MEAN_TOKENS;

  constructor(options: LedgerOptions) {
    this.#options = {
      peersServedSeconds: (): number => 0,
      requestsMax: REQUESTS_MAX,
      requestBlocksMax: REQUEST_BLOCKS_MAX,
      requestAgeMsMax: REQUEST_AGE_MS_MAX,
      onDrop: (): void => {},
      ...options,
    };
  }

  /** Requests in flight at all endpoints. */
  get requests(): number {
    return this.#entries.size;
  }

  /** Moving average of the work of dispatched requests, seconds. */
  get workMeanSeconds(): number {
    return this.#workMeanSeconds;
  }

  /** Moving average of the tokens of whole answers. */
  get outputMeanTokens(): number {
    return this.#outputMeanTokens;
  }

  /** The live load of an endpoint. */
  load(endpointId: EndpointId): EndpointLoad {
    return this.#load(endpointId);
  }

  /** Where a request in flight is prefilled; null: it is not in flight. */
  endpointOf(requestId: string): EndpointId | null {
    return this.#entries.get(requestId)?.dispatch.endpointId ?? null;
  }

  /** Where the gateway sends the request: that of its decode endpoint, if it has one. */
  destinationOf(requestId: string): EndpointId | null {
    const dispatch = this.#entries.get(requestId)?.dispatch;
    return dispatch?.decodeEndpointId ?? dispatch?.endpointId ?? null;
  }

  /** Waiting work of a prefix by endpoint; a live map that the caller only reads. */
  prefixWork(prefixKey: bigint): ReadonlyMap<EndpointId, PrefixWork> {
    return this.#prefixWorks.of(prefixKey);
  }

  /** What an endpoint is stated to be, over 0; 1 if nothing is. Counts until its own first tokens tell. */
  stateSpeed(endpointId: EndpointId, speed: number): void {
    const load = this.#load(endpointId);
    if (load.statedSpeed === speed) return;
    load.statedSpeed = speed;
    this.#hasLearned = true;
  }

  /** The endpoint is new, or was away: it has to warm up. */
  began(endpointId: EndpointId): void {
    this.#load(endpointId).answers = 0;
  }

  /** Settles the speeds of these endpoints, if there were first tokens since the last call. */
  settleSpeeds(endpointIds: readonly EndpointId[]): void {
    if (!this.#hasLearned) return;
    this.#hasLearned = false;
    settleSpeeds(endpointIds.map((endpointId) => this.#load(endpointId)));
  }

  /** Forgets what was learned of other endpoints, once their last request has ended. */
  keep(endpointIds: ReadonlySet<EndpointId>): void {
    for (const [endpointId, { requests, pairedRequests }] of this.#loads) {
      const isIdle = requests === 0 && pairedRequests === 0;
      if (isIdle && !endpointIds.has(endpointId)) this.#loads.delete(endpointId);
    }
  }

  /** False when the ledger is full. A request id that is still known is dispatched anew. */
  dispatched(dispatch: Dispatch): boolean {
    const { workSeconds, inputTokens, atMs, endpointId } = dispatch;
    assert(workSeconds >= 0, "work must not be negative", { work: workSeconds });
    this.#remove(dispatch.requestId);
    if (this.#entries.size >= this.#options.requestsMax) {
      this.#options.onDrop("full");
      return false;
    }
    const hasRoom = this.#requestBlocks + dispatch.keys.length <= this.#options.requestBlocksMax;
    const keys = hasRoom ? dispatch.keys : NO_KEYS;
    this.#requestBlocks += keys.length;
    const load = this.#load(endpointId);
    load.blockSizeTokens = dispatch.blockSizeTokens;
    load.blockTokens = this.#options.blocks.add(endpointId, keys) * dispatch.blockSizeTokens;
    if (load.waiting === 0) this.#headBegins(load, endpointId, atMs);
    load.pendingSeconds += workSeconds;
    load.waiting += 1;
    load.requests += 1;
    if (dispatch.decodeEndpointId !== null) {
      const paired = this.#load(dispatch.decodeEndpointId);
      paired.pairedRequests += 1;
      paired.pairedTokens += inputTokens;
    }
    const dueMs = atMs + (1000 * remainingSeconds(load, atMs)) / load.speed;
    const flags = { isDecoding: false, isAnswered: false };
    this.#add({ dispatch, keys, dueMs, ...flags, streamedTokens: 0 });
    this.#prefixWorks.add(dispatch, 1);
    this.#workMeanSeconds += WORK_MEAN_RATE * (workSeconds - this.#workMeanSeconds);
    return true;
  }

  /**
   * The request is served elsewhere than it was dispatched to; a split one is decoded elsewhere. False
   * when it is unknown.
   */
  moved(requestId: string, endpointId: EndpointId): boolean {
    const entry = this.#entries.get(requestId);
    if (entry === undefined) return false;
    const { dispatch } = entry;
    const isSplit = dispatch.decodeEndpointId !== null;
    const place = isSplit ? { decodeEndpointId: endpointId } : { endpointId };
    return this.dispatched({ ...dispatch, ...place });
  }

  /** Lets unseen prefills be over whose time has come; to be called before loads are read. */
  settlePrefills(nowMs: number): void {
    for (const unseen of this.#unseen.values()) {
      for (const entry of unseen) {
        if (entry.dueMs > nowMs) break;
        const { headSinceMs } = this.#load(entry.dispatch.endpointId);
        this.#endPrefill(entry, Math.max(entry.dueMs, headSinceMs));
      }
    }
  }

  /** False when the request is unknown or had its first token. */
  firstToken(requestId: string, atMs: number): boolean {
    const entry = this.#entries.get(requestId);
    if (entry === undefined || entry.isAnswered) return false;
    entry.isAnswered = true;
    const { endpointId, isFirstTokenShown, workSeconds } = entry.dispatch;
    const load = this.#load(endpointId);
    load.answers += 1;
    if (!isFirstTokenShown) {
      if (!entry.isDecoding) this.#endPrefill(entry, atMs);
      return true;
    }
    const { headSinceMs, headPeersSeconds } = load;
    const unseenSeconds = this.#endEarlierPrefills(entry.dispatch, atMs);
    this.#endPrefill(entry, atMs);
    // An endpoint works for all routers: in that time it also did what theirs have brought.
    const peersSeconds = Math.max(0, load.headPeersSeconds - headPeersSeconds);
    // The first answers of an engine also pay for compiling and warming up: they tell no speed.
    if (load.answers > WARMUP_ANSWERS) {
      const servedSeconds = workSeconds + unseenSeconds + peersSeconds;
      learn(load, servedSeconds, Math.max(0, atMs - headSinceMs) / 1000);
      this.#hasLearned = true;
    }
    return true;
  }

  /** The request streamed so many more tokens. False when it is unknown. */
  progressed(requestId: string, tokens: number): boolean {
    const entry = this.#entries.get(requestId);
    if (entry === undefined || !(tokens > 0)) return false;
    const { dispatch, isDecoding } = entry;
    entry.streamedTokens += tokens;
    if (dispatch.decodeEndpointId !== null) {
      this.#load(dispatch.decodeEndpointId).pairedTokens += tokens;
      if (isDecoding) return true;
    }
    const load = this.#load(dispatch.endpointId);
    load.generatedTokens += tokens;
    if (isDecoding) load.contextTokens += tokens;
    return true;
  }

  /** Ends a request without an answer to learn from. False when it is unknown. */
  ended(requestId: string): boolean {
    return this.#remove(requestId);
  }

  /** Ends a request whose answer is whole. `outputTokens` null: not known. */
  finished(requestId: string, outputTokens: number | null): boolean {
    const isKnown = this.#remove(requestId);
    if (isKnown && outputTokens !== null && outputTokens >= 0) {
      this.#outputMeanTokens += OUTPUT_MEAN_RATE * (outputTokens - this.#outputMeanTokens);
    }
    return isKnown;
  }

  /** Removes the requests older than the age limit; returns how many. Called now and then. */
  expire(nowMs: number): number {
    let expired = 0;
    for (const [requestId, { dispatch }] of this.#entries) {
      if (nowMs - dispatch.atMs <= this.#options.requestAgeMsMax) break;
      this.#remove(requestId);
      this.#options.onDrop("expired");
      expired += 1;
    }
    return expired;
  }

  #add(entry: Entry): void {
    const { requestId, endpointId, isFirstTokenShown } = entry.dispatch;
    this.#entries.set(requestId, entry);
    if (isFirstTokenShown) return;
    const unseen = this.#unseen.get(endpointId) ?? new Set();
    this.#unseen.set(endpointId, unseen.add(entry));
  }

  /** Work of the unseen prefills that the endpoint began before, which are over too. Seconds. */
  #endEarlierPrefills({ endpointId, atMs: beforeMs }: Dispatch, atMs: number): number {
    let seconds = 0;
    for (const entry of this.#unseen.get(endpointId) ?? []) {
      if (entry.dispatch.atMs >= beforeMs) break;
      seconds += entry.dispatch.workSeconds;
      this.#endPrefill(entry, atMs);
    }
    return seconds;
  }

  /** From waiting to decoding. */
  #endPrefill(entry: Entry, atMs: number): void {
    const { dispatch } = entry;
    const load = this.#load(dispatch.endpointId);
    this.#headBegins(load, dispatch.endpointId, atMs);
    load.servedSeconds += dispatch.workSeconds;
    this.#endWaiting(load, entry);
    entry.isDecoding = true;
    if (dispatch.decodeEndpointId === null) {
      load.decoding += 1;
      load.contextTokens += dispatch.inputTokens + entry.streamedTokens;
    } else {
      this.#leave(load, entry);
    }
  }

  #remove(requestId: string): boolean {
    const entry = this.#entries.get(requestId);
    if (entry === undefined) return false;
    this.#entries.delete(requestId);
    const { dispatch, isDecoding, streamedTokens } = entry;
    const load = this.#load(dispatch.endpointId);
    if (!isDecoding) this.#endWaiting(load, entry);
    if (dispatch.decodeEndpointId === null) {
      if (isDecoding) {
        load.decoding -= 1;
        load.contextTokens -= dispatch.inputTokens + streamedTokens;
      }
      this.#leave(load, entry);
      return true;
    }
    if (!isDecoding) this.#leave(load, entry);
    const paired = this.#load(dispatch.decodeEndpointId);
    paired.pairedRequests -= 1;
    paired.pairedTokens -= dispatch.inputTokens + streamedTokens;
    return true;
  }

  #headBegins(load: Load, endpointId: EndpointId, atMs: number): void {
    load.headSinceMs = atMs;
    load.headPeersSeconds = this.#options.peersServedSeconds(endpointId);
  }

  #endWaiting(load: Load, entry: Entry): void {
    const { dispatch } = entry;
    this.#endUnseen(entry);
    this.#prefixWorks.add(dispatch, -1);
    load.waiting -= 1;
    // Sums of floats drift; an empty queue has no work, whatever the drift.
    load.pendingSeconds =
      load.waiting === 0 ? 0 : Math.max(0, load.pendingSeconds - dispatch.workSeconds);
  }

  #endUnseen(entry: Entry): void {
    const { endpointId } = entry.dispatch;
    const unseen = this.#unseen.get(endpointId);
    unseen?.delete(entry);
    if (unseen?.size === 0) this.#unseen.delete(endpointId);
  }

  #leave(load: Load, { dispatch, keys, streamedTokens }: Entry): void {
    this.#requestBlocks -= keys.length;
    load.requests -= 1;
    load.generatedTokens -= streamedTokens;
    const blocks = this.#options.blocks.remove(dispatch.endpointId, keys);
    load.blockTokens = blocks * dispatch.blockSizeTokens;
    assert(load.requests === load.waiting + load.decoding, "ledger counts disagree", { ...load });
  }

  #load(endpointId: EndpointId): Load {
    const known = this.#loads.get(endpointId);
    if (known !== undefined) return known;
    const evidence = { workSeconds: 0, busySeconds: 0, statedSpeed: 1 };
    const load = { ...IDLE_LOAD, ...evidence, headPeersSeconds: 0 };
    this.#loads.set(endpointId, load);
    return load;
  }
}
