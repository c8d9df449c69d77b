/**
 * The scheduler: continuous batching with chunked prefill, step after step, over a Clock.
 *
 * A step gives every running request its next tokens (one when it decodes), then admits waiting
 * requests, first come first served, within maxSeqs and chunkTokens. Blocks are cached when they
 * are scheduled, as in vLLM, so a second equal prompt of the same step already hits the first.
 *
 * Memory: simple admission. A request starts only when the blocks of its prompt and of its whole
 * output can be promised to it, so there is no preemption; vLLM admits earlier and preempts.
 */
import type { Clock } from "../../core/clock.ts";
import type { BlockChain } from "./block-chain.ts";
import { BlockPool } from "./block-pool.ts";
import type { CacheTiers } from "./cache-tiers.ts";
import type { EngineFact } from "./engine-facts.ts";
import { sampleSeed, sampleToken } from "./output-words.ts";
import { decodeSeconds, prefillSeconds, type StepCost } from "./step-cost.ts";
import { StepTimer } from "./step-timer.ts";

export interface EngineCoreOptions extends StepCost {
  readonly gpuBlocks: number;
  /** Requests running at once. */
  readonly maxSeqs: number;
  /** Tokens of all requests in one step. */
  readonly chunkTokens: number;
  /** Requests waiting at once; one more is refused. */
  readonly waitingRequestsMax: number;
  /** Factor on the step times; 0 runs the steps back to back. */
  readonly timeScale: number;
}

export interface EngineCoreDeps {
  readonly clock: Clock;
  /** Runs the callback in a later turn of the event loop, without waiting. */
  readonly nextTurn: (callback: () => void) => void;
  /**
   * Takes the facts of a step that has any, before its tokens are handed out. Blocks that entered a
   * lower tier come as a batch of their own behind it: their transfer follows the step.
   */
  readonly publish: (facts: readonly EngineFact[]) => void;
  /** Tiers below the GPU; none without. */
  readonly tiers?: CacheTiers;
  /** True while prefix hits are told as stores. */
  readonly areHitsReported?: () => boolean;
}

/** How a request ended: all its tokens were made, or nobody waits for them any more. */
export type FinishReason = "length" | "aborted";

interface RequestListener {
  /** Called for every output token, at the end of the step that made it. */
  token?(token: number): void;
  finish(reason: FinishReason): void;
}

export interface EngineRequest {
  readonly chain: BlockChain;
  /** From 1; the chain has room for them. */
  readonly outputTokens: number;
  readonly listener: RequestListener;
}

export interface RequestHandle {
  /** Prompt tokens found in the cache, lower tiers included; 0 until the request runs. */
  cachedTokens(): number;
  /** Frees the request's blocks at once; nothing after its end. */
  abort(): void;
}

/** `full`: too many wait. `too_large`: could never fit into the pool. */
export type SubmitRefusal = "full" | "too_large";

/** Sums since the start. */
export interface CoreTotals {
  requests: number;
  finished: number;
  aborted: number;
  promptTokens: number;
  cachedTokens: number;
  /** Of cachedTokens: loaded from a lower tier. */
  loadedTokens: number;
  generatedTokens: number;
  steps: number;
}

interface ActiveRequest extends EngineRequest {
  readonly promptTokens: number;
  readonly seed: number;
  /** Blocks promised to the request: prompt and output, without the last token's own KV. */
  readonly blocksMax: number;
  readonly blocks: number[];
  computedTokens: number;
  cachedTokens: number;
  storedBlocks: number;
  /** Tokens computed in the step under way. */
  scheduledTokens: number;
}

export class EngineCore {
  readonly pool: BlockPool;
  readonly totals: CoreTotals = {
    requests: 0,
    finished: 0,
    aborted: 0,
    promptTokens: 0,
    cachedTokens: 0,
    loadedTokens: 0,
    generatedTokens: 0,
    steps: 0,
  };
  readonly #options: EngineCoreOptions;
  readonly #deps: EngineCoreDeps;
  readonly #timer: StepTimer;
  readonly #waiting = new Set<ActiveRequest>();
  readonly #running = new Set<ActiveRequest>();
  /** Blocks promised to running requests and not yet taken. */
  #promisedBlocks = 0;
  /** Of the requests that the step under way admitted. */
  #loadSeconds = 0;
  #facts: EngineFact[] = [];
  #isStepping = false;
  #isStopped = false;

  constructor(options: EngineCoreOptions, deps: EngineCoreDeps) {
    this.#options = options;
    this.#deps = deps;
    this.pool = new BlockPool(options.gpuBlocks);
    this.#timer = new StepTimer(options.timeScale, deps);
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get running(): number {
    return this.#running.size;
  }

  submit(request: EngineRequest): RequestHandle | SubmitRefusal {
    const { chain, outputTokens } = request;
    // The last output token is handed out without its KV being computed.
    const tokensMax = chain.tokenCount + outputTokens - 1;
    const blocksMax = Math.ceil(tokensMax / chain.blockSizeTokens);
    if (blocksMax > this.pool.usableBlocks) return "too_large";
    if (this.#isStopped || this.#waiting.size >= this.#options.waitingRequestsMax) return "full";
    const active: ActiveRequest = {
      ...request,
      promptTokens: chain.tokenCount,
      seed: sampleSeed(chain.tokens(0, chain.tokenCount)),
      blocksMax,
      blocks: [],
      computedTokens: 0,
      cachedTokens: 0,
      storedBlocks: 0,
      scheduledTokens: 0,
    };
    this.totals.requests += 1;
    this.#waiting.add(active);
    if (!this.#isStepping) {
      this.#isStepping = true;
      this.#timer.restart();
      this.#deps.nextTurn(() => this.#startStep());
    }
    return {
      cachedTokens: (): number => active.cachedTokens,
      abort: (): void => this.#abort(active),
    };
  }

  /** Publishes what happened to the cache outside of a step. */
  flushFacts(): void {
    this.#collectFacts();
    const facts = this.#facts;
    this.#facts = [];
    const tierFacts = this.#deps.tiers?.takeFacts();
    if (tierFacts !== undefined) facts.push(...tierFacts.removed);
    if (facts.length > 0) this.#deps.publish(facts);
    if (tierFacts !== undefined && tierFacts.stored.length > 0) {
      this.#deps.publish(tierFacts.stored);
    }
  }

  /** Empties the GPU's prefix cache, and the lower tiers if asked; refused while blocks are used. */
  reset(options: { readonly areTiersReset: boolean }): boolean {
    // What an aborted step left behind reaches the tiers before they are emptied.
    this.#collectFacts();
    if (!this.pool.reset()) return false;
    if (options.areTiersReset) this.#deps.tiers?.clear();
    return true;
  }

  /** Aborts every request; none is accepted afterwards. */
  stop(): void {
    this.#isStopped = true;
    for (const request of [...this.#running, ...this.#waiting]) this.#abort(request);
    this.#timer.cancel();
  }

  #startStep(): void {
    if (this.#isStopped) return;
    if (this.#running.size + this.#waiting.size === 0) {
      this.#isStepping = false;
      return;
    }
    this.totals.steps += 1;
    this.#timer.after(this.#schedule(), () => this.#endStep());
  }

  /** Distributes the step's tokens; returns the seconds it takes. */
  #schedule(): number {
    let seconds = this.#options.stepBaseSeconds;
    this.#loadSeconds = 0;
    let budget = this.#options.chunkTokens;
    for (const request of this.#running) {
      seconds += this.#compute(request, budget);
      budget -= request.scheduledTokens;
    }
    for (const request of this.#waiting) {
      if (budget <= 0 || this.#running.size >= this.#options.maxSeqs) break;
      if (!this.#admit(request)) break;
      seconds += this.#compute(request, budget);
      budget -= request.scheduledTokens;
    }
    return seconds + this.#loadSeconds;
  }

  #admit(request: ActiveRequest): boolean {
    const { pool } = this;
    const hit = pool.match(request.chain);
    // Hits that nobody references lie in the free queue and leave it.
    const idleHits = hit.reduce((idle, block) => idle + (pool.isReferenced(block) ? 0 : 1), 0);
    const wanted = request.blocksMax - hit.length;
    if (pool.freeBlocks - idleHits < this.#promisedBlocks + wanted) return false;
    pool.reference(hit);
    for (const block of hit) request.blocks.push(block);
    request.storedBlocks = hit.length;
    request.computedTokens = hit.length * request.chain.blockSizeTokens;
    request.cachedTokens = request.computedTokens;
    this.#promisedBlocks += wanted;
    this.#waiting.delete(request);
    this.#running.add(request);
    if (this.#deps.areHitsReported?.() === true) pool.reportHits(request.chain, hit.length);
    this.#load(request);
    this.totals.promptTokens += request.promptTokens;
    this.totals.cachedTokens += request.cachedTokens;
    return true;
  }

  /** Continues the hits of a request in the lower tiers: loaded blocks are stored like computed ones. */
  #load(request: ActiveRequest): void {
    const { tiers } = this.#deps;
    if (tiers === undefined) return;
    const { chain, blocks } = request;
    const firstDepth = blocks.length;
    // As in BlockPool.match: one token is always left to compute.
    const endDepth = Math.floor((chain.tokenCount - 1) / chain.blockSizeTokens);
    const found = tiers.match(chain, { firstDepth, endDepth });
    if (found.length === 0) return;
    this.#loadSeconds += tiers.load(chain, firstDepth, found);
    for (let taken = 0; taken < found.length; taken++) blocks.push(this.pool.take());
    this.#promisedBlocks -= found.length;
    this.pool.store(chain, blocks, { firstDepth, endDepth: blocks.length });
    request.storedBlocks = blocks.length;
    request.computedTokens = blocks.length * chain.blockSizeTokens;
    request.cachedTokens = request.computedTokens;
    this.totals.loadedTokens += found.length * chain.blockSizeTokens;
  }

  /** Takes blocks for the request's next tokens and caches those that get full. */
  #compute(request: ActiveRequest, budgetTokens: number): number {
    const { chain, computedTokens } = request;
    const tokens = Math.min(chain.tokenCount - computedTokens, budgetTokens);
    request.scheduledTokens = tokens;
    if (tokens <= 0) return 0;
    const endTokens = computedTokens + tokens;
    const blocksNeeded = Math.ceil(endTokens / chain.blockSizeTokens);
    while (request.blocks.length < blocksNeeded) {
      request.blocks.push(this.pool.take());
      this.#promisedBlocks -= 1;
    }
    const endDepth = Math.floor(endTokens / chain.blockSizeTokens);
    this.pool.store(chain, request.blocks, { firstDepth: request.storedBlocks, endDepth });
    request.storedBlocks = Math.max(request.storedBlocks, endDepth);
    return computedTokens >= request.promptTokens
      ? decodeSeconds(this.#options, endTokens)
      : prefillSeconds(this.#options, computedTokens, tokens);
  }

  #endStep(): void {
    if (this.#isStopped) return;
    this.flushFacts();
    for (const request of this.#running) this.#advance(request);
    this.#startStep();
  }

  #advance(request: ActiveRequest): void {
    const { chain } = request;
    if (request.scheduledTokens <= 0) return;
    request.computedTokens += request.scheduledTokens;
    request.scheduledTokens = 0;
    if (request.computedTokens < chain.tokenCount) return;
    const made = chain.tokenCount - request.promptTokens;
    const token = sampleToken(request.seed, made);
    chain.append(token);
    this.totals.generatedTokens += 1;
    const isLast = made + 1 >= request.outputTokens;
    if (isLast) this.#leave(request);
    request.listener.token?.(token);
    if (!isLast) return;
    this.totals.finished += 1;
    request.listener.finish("length");
  }

  /** Takes the pool's facts over, and shows them to the tiers. */
  #collectFacts(): void {
    const facts = this.pool.takeFacts();
    if (facts.length === 0) return;
    this.#deps.tiers?.observe(facts);
    for (const fact of facts) this.#facts.push(fact);
  }

  #abort(request: ActiveRequest): void {
    if (this.#waiting.delete(request)) {
      // It holds nothing yet.
    } else if (this.#running.has(request)) this.#leave(request);
    else return;
    this.totals.aborted += 1;
    request.listener.finish("aborted");
  }

  #leave(request: ActiveRequest): void {
    this.#running.delete(request);
    this.#promisedBlocks -= request.blocksMax - request.blocks.length;
    this.pool.release(request.blocks);
  }
}
