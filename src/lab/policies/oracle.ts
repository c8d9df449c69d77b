/**
 * The reference: a cost in seconds as the router's own, from the exact present state of every pod
 * (queues, caches, memory, speeds) and nothing of the future. One oracle serves all replicas.
 *
 * It is a yardstick for tuning: what a decision could reach whose knowledge is never late.
 */
import { type Random, seededRandom } from "../../core/random.ts";
import { prefillSeconds } from "../engine/step-cost.ts";
import type { PodHost } from "../sim/pod-host.ts";
import type { SimTruth } from "../sim/simulation.ts";
import type {
  RouteAnswer,
  RouteMessage,
  SimulateAnswer,
  SimulatedRouter,
  SimulateMessage,
} from "../simulate/messages.ts";
import { type BookedPod, PodBook } from "./pod-book.ts";

/** Answer length that memory is kept for, tokens. */
const ANSWER_TOKENS = 256;
/** Decode context of an assigned request that is yet to come, tokens. */
const DECODE_AHEAD_TOKENS = 500;

interface PodState {
  readonly host: PodHost;
  readonly booked: BookedPod;
  /** Work ahead, seconds at speed 1. */
  readonly queue: number;
  readonly waiting: number;
  readonly decoding: number;
  /** Constant part and context reading of a decode step, seconds at speed 1. */
  readonly step: number;
}

export class Oracle implements SimulatedRouter {
  readonly #truth: SimTruth;
  readonly #random: Random = seededRandom(0);
  readonly #book = new PodBook();
  /** Work of each request as it was sent, seconds at speed 1. */
  readonly #work = new Map<number | string, number>();
  #isInitialised = false;

  constructor(truth: SimTruth) {
    this.#truth = truth;
  }

  handle(message: SimulateMessage): SimulateAnswer | null {
    if (message.op === "route") return this.#route(message);
    if (message.op === "init") {
      if (!this.#isInitialised) this.#book.note(message);
      this.#isInitialised = true;
      return { ok: true };
    }
    if (message.op === "first_token" || message.op === "finish" || message.op === "refused") {
      this.#book.note(message);
      if (message.op !== "first_token") this.#work.delete(message.id);
    }
    return null;
  }

  #route(message: RouteMessage): RouteAnswer {
    const pods = this.#truth.hosts.flatMap((host) => {
      const booked = this.#book.pods.get(host.id);
      return host.isAccepting && booked !== undefined ? [{ host, booked }] : [];
    });
    const states = pods
      .filter(({ host }) => host.role !== "decode")
      .map((pod) => this.#stateOf(pod, message.t));
    const decodePods = pods.filter(({ host }) => host.role === "decode");
    const isDisaggregated = this.#book.hasDecodePods;
    if (states.length === 0 || (isDisaggregated && decodePods.length === 0)) return { pod: null };
    const best = this.#cheapest(states, message);
    const decodePod = isDisaggregated ? lightest(decodePods) : null;
    this.#work.set(message.id, best.work);
    this.#book.book(message, { pod: best.state.booked, decodePod, newTokens: 0 });
    const answer = { pod: best.state.host.id };
    return decodePod === null ? answer : { ...answer, decode_pod: decodePod.facts.id };
  }

  #stateOf({ host, booked }: { host: PodHost; booked: BookedPod }, nowSeconds: number): PodState {
    const { cost, speed } = host.pod.shape;
    let queue = 0;
    for (const { id } of host.pod.waiting) queue += this.#work.get(id) ?? 0;
    let context = 0;
    let decoding = 0;
    let isPrefilling = false;
    for (const request of host.pod.running) {
      const { generated, promptTokens, computedTokens, scheduledTokens } = request;
      if (generated > 0) {
        decoding += 1;
        context += promptTokens + generated;
        continue;
      }
      isPrefilling = true;
      const done = computedTokens + scheduledTokens;
      queue += prefillSeconds(cost, done, promptTokens - done);
    }
    if (isPrefilling) queue += Math.max(0, host.stepEndSeconds - nowSeconds) * speed;
    return {
      host,
      booked,
      queue,
      waiting: booked.waiting,
      decoding,
      step: cost.stepBaseSeconds + cost.decodeSecondsPerContextToken * context,
    };
  }

  #cheapest(states: readonly PodState[], message: RouteMessage): { state: PodState; work: number } {
    const mean = (values: readonly number[]): number =>
      values.reduce((sum, value) => sum + value, 0) / values.length;
    const queueMean = mean(states.map(({ queue, host }) => queue / host.pod.shape.speed));
    const lambda = 0.2 + Math.min(16, 2 * Math.max(0, queueMean - 0.3));
    const usageMean = mean(states.map(({ host }) => host.pod.cache.usage));
    const memoryPrice = 1000 * Math.min(2, Math.max(0, (usageMean - 0.6) / 0.4));
    let costMin = Number.POSITIVE_INFINITY;
    let ties: { state: PodState; work: number }[] = [];
    for (const state of states) {
      const own = ownWork(state, message);
      const cost = costOf(state, own, { queueMean, lambda, memoryPrice });
      if (cost < costMin - 1e-9) ties = [];
      if (cost < costMin + 1e-9) ties.push({ state, work: own.seconds });
      costMin = Math.min(costMin, cost);
    }
    const best = ties[Math.floor(this.#random.next() * ties.length)];
    if (best === undefined) throw new Error("no pod has a finite cost");
    return best;
  }
}

interface OwnWork {
  readonly seconds: number;
  /** Tokens of memory that it adds. */
  readonly addedTokens: number;
}

function ownWork({ host, booked }: PodState, message: RouteMessage): OwnWork {
  const { shape, cache } = host.pod;
  const { blocks, input_tokens: inputTokens } = message;
  const isActive = (block: number): boolean => booked.activeBlocks.has(block);
  const gpuBlocks = PodBook.leading(blocks, (block) => cache.has(block) || isActive(block));
  const prefill = (hitBlocks: number): number => {
    const hit = Math.min(hitBlocks * shape.blockTokens, inputTokens - 1);
    return prefillSeconds(shape.cost, hit, inputTokens - hit);
  };
  let loads = 0;
  let depth = gpuBlocks;
  for (; depth < blocks.length; depth++) {
    const block = blocks[depth] ?? -1;
    if (cache.has(block) || isActive(block)) continue;
    if (cache.cpu.has(block)) loads += shape.cpuLoadSeconds;
    else if (cache.disk.has(block)) loads += shape.diskLoadSeconds;
    else break;
  }
  const activeBlocks = PodBook.leading(blocks, isActive);
  return {
    seconds: depth > gpuBlocks ? prefill(depth) + loads : prefill(gpuBlocks),
    addedTokens: inputTokens - activeBlocks * shape.blockTokens + ANSWER_TOKENS,
  };
}

function costOf(
  { host, queue, waiting, decoding, step }: PodState,
  own: OwnWork,
  fleet: { readonly queueMean: number; readonly lambda: number; readonly memoryPrice: number },
): number {
  const { shape, cache } = host.pod;
  const { speed, cost, chunkTokens, gpuBlocks, blockTokens } = shape;
  const slow = 1 + (3 * step) / (cost.prefillSecondsPerToken * chunkTokens);
  const ahead = (queue * slow) / speed;
  const share = own.addedTokens / (gpuBlocks * blockTokens);
  return (
    ahead +
    2 * Math.max(0, ahead - 1.5 * fleet.queueMean - 1) +
    (own.seconds * slow * (1 + fleet.lambda * (1 + 0.15 * waiting))) / speed +
    (0.9 * step * Math.sqrt(decoding)) / speed +
    10 * Math.min(0.15, Math.max(0, cache.usage + share - 0.85)) +
    fleet.memoryPrice * share
  );
}

function lightest(pods: readonly { readonly booked: BookedPod }[]): BookedPod {
  const context = ({ requests }: BookedPod): number =>
    [...requests].reduce(
      (sum, { inputTokens, generatedTokens }) =>
        sum + inputTokens + generatedTokens + DECODE_AHEAD_TOKENS,
      0,
    );
  return pods.reduce((best, pod) => (context(pod.booked) < context(best.booked) ? pod : best))
    .booked;
}
