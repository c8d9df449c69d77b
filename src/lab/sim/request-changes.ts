/** What can befall a stream of requests: bursts, and a prefix that suddenly everybody asks for. */
import type { Random } from "../../core/random.ts";
import { drawInt } from "../workload/draw.ts";
import type { SimRequest } from "./sim-request.ts";

export interface Bursts {
  readonly periodSeconds: number;
  readonly burstSeconds: number;
  /** Arrival rate in a burst over the rate between bursts. */
  readonly factor: number;
}

/** Moves arrivals so that their rate goes up and down; mean rate and order stay. */
export function withBursts(requests: readonly SimRequest[], bursts: Bursts): SimRequest[] {
  const { periodSeconds, burstSeconds, factor } = bursts;
  const weight = factor * burstSeconds + (periodSeconds - burstSeconds);
  // Share of a period's arrivals that its burst has.
  const burstShare = (factor * burstSeconds) / weight;
  return requests.map((request) => {
    const period = Math.floor(request.atSeconds / periodSeconds);
    const share = request.atSeconds / periodSeconds - period;
    const inPeriod =
      share < burstShare
        ? (share / burstShare) * burstSeconds
        : burstSeconds + ((share - burstShare) / (1 - burstShare)) * (periodSeconds - burstSeconds);
    return { ...request, atSeconds: period * periodSeconds + inPeriod };
  });
}

export interface HotPrefix {
  /** From this share of the requests on. */
  readonly after: number;
  /** Share of the traffic that asks for it. */
  readonly share: number;
  readonly tokens: number;
}

/** Own part of a prompt behind the hot prefix, and its answer. */
const HOT_TAIL_TOKENS = { min: 100, max: 1500 };
const HOT_ANSWER_TOKENS = { min: 30, max: 300 };

/** Replaces a share of the requests by ones that all begin alike. */
export function withHotPrefix(
  requests: readonly SimRequest[],
  { after, share, tokens }: HotPrefix,
  context: { readonly blockTokens: number; readonly random: Random },
): SimRequest[] {
  const { blockTokens, random } = context;
  const known = requests.flatMap(({ blocks, answerBlocks }) => [...blocks, ...answerBlocks]);
  let nextId = known.reduce((most, id) => Math.max(most, id), 0) + 1;
  const take = (count: number): number[] =>
    Array.from({ length: Math.max(0, count) }, () => nextId++);
  const hot = take(Math.floor(tokens / blockTokens));
  return requests.map((request, index) => {
    if (index < after * requests.length || random.next() >= share) return request;
    const inputTokens = tokens + drawInt(random, HOT_TAIL_TOKENS);
    return {
      atSeconds: request.atSeconds,
      session: `hot${index}`,
      inputTokens,
      outputTokens: drawInt(random, HOT_ANSWER_TOKENS),
      blocks: [...hot, ...take(Math.floor(inputTokens / blockTokens) - hot.length)],
      answerBlocks: [],
    };
  });
}
