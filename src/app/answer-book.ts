/**
 * From a decision to its answer: what was predicted for a request is kept until its engine has
 * told, and what the answer shows goes to the audit, the expected events and the assumed blocks.
 */
import type { EndpointId } from "../core/ids.ts";
import type { EndOfRequest } from "../extproc/picker.ts";
import type { Audit } from "../fleet/audit.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { EvictionBoard, WatchedBlock } from "../indexer/eviction-board.ts";
import type { Candidate, Routed } from "../router/decide.ts";
import type { KnownFleet, PodKnowledge } from "./pod-knowledge.ts";

/** Deepest holders of a prompt whose predictions are kept, in case a gateway retries at one. */
const PREDICTIONS_MAX = 8;

export interface AnswerBookDeps {
  readonly audit: Audit;
  readonly evictions: EvictionBoard;
  readonly knowledge: PodKnowledge;
  readonly fleet: Fleet;
}

export interface DecidedRequest {
  readonly requestId: string;
  readonly decision: Routed;
  readonly inputTokens: number;
  /** Empty: the prompt's tokens are not known; nothing was predicted, and nothing is audited. */
  readonly keysBySize: ReadonlyMap<number, BigUint64Array>;
  /** Keys of the chunks of its text; empty: it has none. */
  readonly chunkKeys: BigUint64Array;
  readonly known: KnownFleet;
  readonly nowMs: number;
}

interface Prediction {
  readonly candidate: Candidate;
  readonly blockSizeTokens: number;
  /** Key of the last block counted on; null: none was. */
  readonly lastKey: bigint | null;
}

interface OpenAnswer {
  readonly inputTokens: number;
  readonly dispatchedMs: number;
  readonly predictions: ReadonlyMap<EndpointId, Prediction>;
  /** By block size, of the endpoints whose blocks are assumed. */
  readonly assumable: ReadonlyMap<number, BigUint64Array>;
  /** What is told of cached tokens is the decode endpoint's, and says nothing of the prefill's cache. */
  readonly isSplit: boolean;
  readonly chunkKeys: BigUint64Array;
  endpointId: EndpointId;
  watched: WatchedBlock | null;
  /** HTTP status; null: not seen. */
  status: number | null;
}

export class AnswerBook {
  readonly #deps: AnswerBookDeps;
  /** By request, as many as the edge has streams. */
  readonly #open = new Map<string, OpenAnswer>();

  constructor(deps: AnswerBookDeps) {
    this.#deps = deps;
  }

  decided(request: DecidedRequest): void {
    const { requestId, decision, inputTokens, keysBySize, chunkKeys, known, nowMs } = request;
    if (keysBySize.size === 0 && chunkKeys.length === 0) return;
    this.#close(requestId);
    const predictions = this.#predictions(request);
    const sizes = new Set(known.approximated.values());
    const answer: OpenAnswer = {
      inputTokens,
      dispatchedMs: nowMs,
      predictions,
      chunkKeys,
      assumable: new Map([...keysBySize].filter(([size]) => sizes.has(size))),
      isSplit: decision.decodeEndpointId !== null,
      endpointId: decision.chosen.endpointId,
      watched: null,
      status: null,
    };
    answer.watched = this.#watch(predictions.get(answer.endpointId));
    this.#open.set(requestId, answer);
  }

  /** The gateway sent the request elsewhere. */
  moved(requestId: string, endpointId: EndpointId): void {
    const answer = this.#open.get(requestId);
    if (answer === undefined || answer.isSplit) return;
    if (answer.watched !== null) this.#deps.evictions.unwatch(answer.watched);
    answer.endpointId = endpointId;
    answer.watched = this.#watch(answer.predictions.get(endpointId));
  }

  started(requestId: string, status: number): void {
    const answer = this.#open.get(requestId);
    if (answer !== undefined && status !== 0) answer.status = status;
  }

  /** The prompt is computed: its blocks are there from now on, however long the answer is. */
  firstByte(requestId: string, nowMs: number): void {
    const answer = this.#open.get(requestId);
    if (answer !== undefined && isSuccess(answer.status)) this.#assume(answer, nowMs);
  }

  ended(requestId: string, { outcome, usage }: EndOfRequest, nowMs: number): void {
    const answer = this.#open.get(requestId);
    const isAnswered = outcome === "complete" && isSuccess(answer?.status ?? null);
    if (answer === undefined || !isAnswered) {
      this.#close(requestId);
      return;
    }
    this.#open.delete(requestId);
    this.#assume(answer, nowMs);
    const cachedTokens = answer.isSplit ? null : (usage?.cachedTokens ?? null);
    this.#expectEvents(answer, cachedTokens, nowMs);
    this.#audit(answer, cachedTokens, nowMs);
  }

  /** None where nothing is known to have been keyed: a guess is no prediction. */
  #predictions({ decision, keysBySize }: DecidedRequest): Map<EndpointId, Prediction> {
    if (keysBySize.size === 0) return new Map();
    const { candidates, chosen } = decision;
    const others = candidates
      .best({ cheapest: 0, deepest: PREDICTIONS_MAX })
      .filter(({ endpointId }) => endpointId !== chosen.endpointId);
    const found = new Map<EndpointId, Prediction>();
    for (const candidate of [chosen, ...others]) {
      const endpoint = this.#deps.fleet.endpoint(candidate.endpointId);
      if (endpoint === null) continue;
      const blockSizeTokens = this.#deps.knowledge.blockSizeOf(endpoint);
      const blocks = Math.ceil(predictedTokens(candidate) / blockSizeTokens);
      const lastKey = keysBySize.get(blockSizeTokens)?.[blocks - 1] ?? null;
      found.set(candidate.endpointId, { candidate, blockSizeTokens, lastKey });
    }
    return found;
  }

  #watch(prediction: Prediction | undefined): WatchedBlock | null {
    if (prediction === undefined || prediction.lastKey === null) return null;
    const { candidate, lastKey } = prediction;
    return this.#deps.evictions.watch(candidate.endpointId, lastKey);
  }

  #assume({ endpointId, assumable, chunkKeys }: OpenAnswer, nowMs: number): void {
    const { knowledge, fleet } = this.#deps;
    const endpoint = fleet.endpoint(endpointId);
    if (endpoint === null) return;
    if (chunkKeys.length > 0) knowledge.chunksAnswered(endpoint, chunkKeys, nowMs);
    if (assumable.size === 0) return;
    const blockSizeTokens = knowledge.known([endpoint], nowMs).approximated.get(endpointId);
    const keys = blockSizeTokens === undefined ? undefined : assumable.get(blockSizeTokens);
    if (keys === undefined) return;
    const gpuBlocks = endpoint.signals?.value.gpuBlocks ?? null;
    knowledge.assumed.assume(endpointId, { keys, gpuBlocks, nowMs });
  }

  /** Notes an answer whose engine had blocks to store, and therefore events to send. */
  #expectEvents(answer: OpenAnswer, cachedTokens: number | null, nowMs: number): void {
    const { knowledge, fleet } = this.#deps;
    const { endpointId, inputTokens, dispatchedMs, status } = answer;
    const endpoint = fleet.endpoint(endpointId);
    const prediction = answer.predictions.get(endpointId);
    if (endpoint === null || endpoint.spec.kvEvents === null || prediction === undefined) return;
    const { candidate, blockSizeTokens } = prediction;
    // What a degraded holder is not known to hold it may hold all the same.
    const isTold = cachedTokens !== null || candidate.known.state !== "DEGRADED";
    if (!isTold || status === null) return;
    const cachedBlocks = Math.ceil((cachedTokens ?? predictedTokens(candidate)) / blockSizeTokens);
    if (Math.floor(inputTokens / blockSizeTokens) <= cachedBlocks) return;
    const heardMs = knowledge.heardMsOf(endpoint.spec);
    knowledge.expected.answered(endpointId, { heardMs, nowMs, dispatchedMs });
  }

  #audit(answer: OpenAnswer, cachedTokens: number | null, nowMs: number): void {
    const { audit, evictions } = this.#deps;
    const { endpointId, watched, inputTokens } = answer;
    const prediction = answer.predictions.get(endpointId);
    const release = (): void => {
      if (watched !== null) evictions.unwatch(watched);
    };
    // What is assumed is a guess by design; there is nothing to resynchronise.
    const isAssumed = prediction?.candidate.known.state === "FALLBACK";
    const isAudited = prediction !== undefined && !isAssumed && !answer.isSplit;
    if (!isAudited || cachedTokens === null) {
      release();
      if (isAudited) audit.unreported(endpointId);
      return;
    }
    const { candidate, blockSizeTokens } = prediction;
    const sample = {
      ...{ endpointId, inputTokens, blockSizeTokens, deliveredTokens: cachedTokens },
      predictedTokens: predictedTokens(candidate),
      heldTokens: candidate.match.heldTokens,
      isEvicted: (): boolean => watched?.isEvicted ?? false,
      release,
    };
    audit.answered(sample, nowMs);
  }

  #close(requestId: string): void {
    const watched = this.#open.get(requestId)?.watched ?? null;
    if (watched !== null) this.#deps.evictions.unwatch(watched);
    this.#open.delete(requestId);
  }
}

/** What is reused of other requests in flight is no claim about what the engine has said. */
function predictedTokens({ reusedTokens, match }: Candidate): number {
  return Math.min(reusedTokens, match.heldTokens);
}

/** A status that the gateway does not show counts as a success: most are. */
function isSuccess(status: number | null): boolean {
  return status === null || (status >= 200 && status < 300);
}
