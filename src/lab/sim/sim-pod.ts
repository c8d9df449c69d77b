/**
 * One simulated pod: vLLM's scheduler with continuous batching, chunked prefill, paged KV memory with
 * prefix cache, preemption, and lower tiers, in simulated time.
 *
 * A step gives every running request its next tokens (one when it decodes), then admits waiting ones
 * in order within the chunk's tokens, max_seqs and free blocks. A request takes blocks as it goes;
 * when none is free the youngest running request is preempted, loses its blocks, and starts anew
 * from the head of the queue. Loading from a lower tier lengthens the step that admits the request.
 * Costs are those of the lab engine, divided by the pod's speed.
 */
import { decodeSeconds, prefillSeconds, type StepCost } from "../engine/step-cost.ts";
import { type CacheSizes, PagedCache } from "./paged-cache.ts";

export interface PodShape extends CacheSizes {
  readonly cost: StepCost;
  /** 1: the nominal accelerator; 2: twice as fast. */
  readonly speed: number;
  readonly maxSeqs: number;
  readonly chunkTokens: number;
  readonly blockTokens: number;
  /** Seconds that loading a block from the tier takes. */
  readonly cpuLoadSeconds: number;
  readonly diskLoadSeconds: number;
}

/** A request at a pod. */
export interface PodRequest {
  readonly id: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Blocks of prompt and answer by depth; beyond its end nobody can reuse them. */
  readonly blocks: readonly number[];
  readonly slots: number[];
  /** Tokens handed out. */
  generated: number;
  /** Tokens whose KV is computed, loaded or found. */
  computedTokens: number;
  /** Found in the cache or a lower tier at the first admission; null before. */
  cachedTokens: number | null;
  storedBlocks: number;
  /** Tokens computed in the step under way. */
  scheduledTokens: number;
  /** Its KV came from a prefill pod: taken over whole when it is admitted. */
  isTransferred: boolean;
}

/** What a step brought about; valid until the next step. */
export interface StepEnd {
  readonly firstTokens: readonly PodRequest[];
  readonly finished: readonly PodRequest[];
}

export class SimPod {
  readonly shape: PodShape;
  cache: PagedCache;
  /** In order of admission, oldest first. */
  readonly running: PodRequest[] = [];
  readonly waiting: PodRequest[] = [];
  /** Seconds of computing and loading, without the constant part of steps. */
  workSeconds = 0;
  preemptions = 0;
  steps = 0;
  #loadSeconds = 0;

  constructor(shape: PodShape) {
    this.shape = shape;
    this.cache = new PagedCache(shape);
  }

  /** All that it held is gone, cache included; returns the requests that it had. */
  die(): PodRequest[] {
    const lost = [...this.running, ...this.waiting];
    this.running.length = 0;
    this.waiting.length = 0;
    this.cache = new PagedCache(this.shape);
    return lost;
  }

  /** Distributes a step's tokens; returns the seconds that it takes, or null when nothing is there. */
  startStep(): number | null {
    if (this.running.length + this.waiting.length === 0) return null;
    this.steps += 1;
    this.#loadSeconds = 0;
    let budget = this.shape.chunkTokens;
    let seconds = 0;
    const preemptionsBefore = this.preemptions;
    // The list may get shorter from its end while it is walked.
    for (let index = 0; index < this.running.length; index++) {
      const request = this.running[index];
      if (request === undefined) break;
      seconds += this.#compute(request, budget);
      budget -= request.scheduledTokens;
    }
    if (this.preemptions === preemptionsBefore) seconds += this.#admitAll(budget);
    const workSeconds = (seconds + this.#loadSeconds) / this.shape.speed;
    this.workSeconds += workSeconds;
    return this.shape.cost.stepBaseSeconds / this.shape.speed + workSeconds;
  }

  endStep(): StepEnd {
    const firstTokens: PodRequest[] = [];
    const finished: PodRequest[] = [];
    for (const request of this.running) {
      if (request.scheduledTokens === 0) continue;
      request.computedTokens += request.scheduledTokens;
      request.scheduledTokens = 0;
      if (request.computedTokens < request.promptTokens + request.generated) continue;
      request.generated += 1;
      if (request.generated === 1) firstTokens.push(request);
      if (request.generated >= request.outputTokens) finished.push(request);
    }
    for (const request of finished) this.leave(request);
    return { firstTokens, finished };
  }

  /** Ends a running request; its blocks stay cached. */
  leave(request: PodRequest): void {
    const index = this.running.indexOf(request);
    if (index >= 0) this.running.splice(index, 1);
    this.cache.release(request.slots);
    request.slots.length = 0;
  }

  #admitAll(budgetTokens: number): number {
    let budget = budgetTokens;
    let seconds = 0;
    while (budget > 0 && this.running.length < this.shape.maxSeqs) {
      const request = this.waiting[0];
      if (request === undefined || !this.#admit(request, budget)) break;
      this.waiting.shift();
      this.running.push(request);
      seconds += this.#compute(request, budget);
      budget -= request.scheduledTokens;
    }
    return seconds;
  }

  /** Takes what the caches hold of a request; false when its first chunk has no room. */
  #admit(request: PodRequest, budget: number): boolean {
    const { cache, shape } = this;
    const { blocks } = request;
    const totalTokens = request.promptTokens + request.generated;
    if (request.isTransferred) return this.#takeOver(request, totalTokens);
    const usableBlocks = Math.min(Math.floor((totalTokens - 1) / shape.blockTokens), blocks.length);
    const gpuHit = cache.matchGpu(blocks, usableBlocks);
    const load = this.#matchLower(blocks, gpuHit, usableBlocks);
    const hitBlocks = gpuHit + load.blocks;
    const firstTokens = Math.min(totalTokens - hitBlocks * shape.blockTokens, budget);
    const wanted =
      Math.ceil((hitBlocks * shape.blockTokens + firstTokens) / shape.blockTokens) - gpuHit;
    if (cache.freeBlocks - cache.idleOf(blocks, gpuHit) < wanted) return false;
    for (const slot of cache.reference(blocks, gpuHit)) request.slots.push(slot);
    for (let taken = 0; taken < load.blocks; taken++) request.slots.push(cache.take());
    cache.store(request.slots, blocks, { firstDepth: gpuHit, endDepth: hitBlocks });
    this.#loadSeconds += load.seconds;
    request.storedBlocks = hitBlocks;
    request.computedTokens = hitBlocks * shape.blockTokens;
    // A preempted request finds its own blocks again: that is no hit.
    request.cachedTokens ??= request.computedTokens;
    return true;
  }

  /** Room for KV that a prefill pod has computed. */
  #takeOver(request: PodRequest, totalTokens: number): boolean {
    const wanted = Math.ceil(totalTokens / this.shape.blockTokens);
    if (this.cache.freeBlocks < wanted) return false;
    for (let taken = 0; taken < wanted; taken++) request.slots.push(this.cache.take());
    request.computedTokens = totalTokens - 1;
    request.storedBlocks = wanted;
    request.isTransferred = false;
    return true;
  }

  #matchLower(
    blocks: readonly number[],
    firstDepth: number,
    endDepth: number,
  ): { readonly blocks: number; readonly seconds: number } {
    const { cache, shape } = this;
    if (shape.cpuBlocks === 0) return { blocks: 0, seconds: 0 };
    let seconds = 0;
    let depth = firstDepth;
    for (; depth < endDepth; depth++) {
      const block = blocks[depth] ?? -1;
      if (cache.cpu.touch(block)) seconds += shape.cpuLoadSeconds;
      else if (cache.disk.touch(block)) seconds += shape.diskLoadSeconds;
      else break;
    }
    return { blocks: depth - firstDepth, seconds };
  }

  /** Gives a request its next tokens; returns what they add to the step, seconds at speed 1. */
  #compute(request: PodRequest, budgetTokens: number): number {
    const { cost, blockTokens } = this.shape;
    const { computedTokens } = request;
    const totalTokens = request.promptTokens + request.generated;
    const tokens = Math.min(totalTokens - computedTokens, budgetTokens);
    if (tokens <= 0) return 0;
    const endTokens = computedTokens + tokens;
    if (!this.#makeRoom(request, Math.ceil(endTokens / blockTokens))) return 0;
    request.scheduledTokens = tokens;
    const endDepth = Math.floor(endTokens / blockTokens);
    if (endDepth > request.storedBlocks) {
      const firstDepth = request.storedBlocks;
      this.cache.store(request.slots, request.blocks, { firstDepth, endDepth });
      request.storedBlocks = endDepth;
    }
    return request.generated > 0 && tokens === 1
      ? decodeSeconds(cost, endTokens)
      : prefillSeconds(cost, computedTokens, tokens);
  }

  /** Takes blocks, preempting the youngest where none is free; false when that was the request. */
  #makeRoom(request: PodRequest, blocksNeeded: number): boolean {
    while (request.slots.length < blocksNeeded) {
      if (this.cache.freeBlocks > 0) {
        request.slots.push(this.cache.take());
        continue;
      }
      const youngest = this.running.pop();
      if (youngest === undefined) return false;
      this.#preempt(youngest);
      if (youngest === request) return false;
    }
    return true;
  }

  #preempt(request: PodRequest): void {
    this.preemptions += 1;
    this.cache.release(request.slots);
    request.slots.length = 0;
    request.computedTokens = 0;
    request.storedBlocks = 0;
    request.scheduledTokens = 0;
    this.waiting.unshift(request);
  }
}
