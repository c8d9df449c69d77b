/**
 * A decision as it is kept until somebody asks for its record: the numbers of its candidates stand in one
 * array. With objects for them, they were most of what the collector moves while decisions are made. Pure.
 */
import type { Candidate, Routed } from "./decide.ts";
import type { EndpointMatch } from "./endpoint-match.ts";
import type { PopularPrefix } from "./popularity.ts";

/** Candidates kept of one decision: the cheapest, and of the others those that could reuse most. */
const CHEAPEST_CANDIDATES_MAX = 8;
const DEEPEST_CANDIDATES_MAX = 2;

/** What is told of a candidate. */
export type KeptCandidate = Omit<Candidate, "match"> & Pick<EndpointMatch, "tokensByTier">;

type Numbers = Omit<KeptCandidate, "endpointId" | "known" | "tokensByTier" | "cap">;
type Rest = Omit<KeptCandidate, keyof Numbers>;

/** Of a popular prefix, with how many endpoints hold it. */
type KeptPrefix = Pick<PopularPrefix, "blocks" | "workRate" | "holdersNeeded"> & {
  readonly holders: number;
};

export interface KeptDecision<Request> {
  readonly request: Request;
  readonly decision: Omit<Routed, "chosen" | "runnerUp" | "candidates" | "popularPrefix">;
  readonly popularPrefix: KeptPrefix | null;
  readonly candidateCount: number;
  /** Those that are kept for being the best, cheapest first; the chosen one and the next may follow. */
  readonly best: number;
  readonly chosenAt: number;
  /** -1: there is none. */
  readonly runnerUpAt: number;
  readonly numbers: Float64Array;
  readonly rests: readonly Rest[];
}

/** Places of one candidate's numbers; its terms come behind them. */
const AT = { cost: 0, reused: 1, work: 2, speed: 3, signalAge: 4, terms: 5 } as const;
const TERMS = [
  ...(["queue", "prefill", "externality", "interference", "kvPressure", "kvMemory"] as const),
  ...(["faults", "surplus", "spend", "warmup"] as const),
] satisfies (keyof Candidate["terms"])[];
const ROW: number = AT.terms + TERMS.length;

export function keptDecision<Request>(decision: Routed, request: Request): KeptDecision<Request> {
  const { chosen, runnerUp, candidates, popularPrefix: prefix, ...rest } = decision;
  const kept = candidates.best({
    cheapest: CHEAPEST_CANDIDATES_MAX,
    deepest: DEEPEST_CANDIDATES_MAX,
  });
  const best = kept.length;
  const placeOf = (wanted: Candidate): number => {
    const place = kept.findIndex(({ endpointId }) => endpointId === wanted.endpointId);
    return place === -1 ? kept.push(wanted) - 1 : place;
  };
  const chosenAt = placeOf(chosen);
  const runnerUpAt = runnerUp === null ? -1 : placeOf(runnerUp);
  const numbers = new Float64Array(ROW * kept.length);
  for (let place = 0; place < kept.length; place += 1) write(numbers, ROW * place, kept[place]);
  const rests = kept.map(({ endpointId, known, match, cap }) => {
    return { endpointId, known, tokensByTier: match.tokensByTier, cap };
  });
  return {
    ...{ request, decision: rest, candidateCount: candidates.count },
    ...{ best, chosenAt, runnerUpAt, numbers, rests },
    popularPrefix: prefix === null ? null : keptPrefix(prefix),
  };
}

/** Null: `place` is none of those kept. */
export function keptCandidate(
  { numbers, rests }: KeptDecision<unknown>,
  place: number,
): KeptCandidate | null {
  const rest = rests[place];
  return rest === undefined ? null : { ...rest, ...read(numbers, ROW * place) };
}

function keptPrefix({ blocks, workRate, holdersNeeded, holders }: PopularPrefix): KeptPrefix {
  return { blocks, workRate, holdersNeeded, holders: holders.length };
}

function write(numbers: Float64Array, at: number, candidate: Numbers | undefined): void {
  if (candidate === undefined) return;
  const { terms, signalAgeMs } = candidate;
  numbers[at + AT.cost] = candidate.costSeconds;
  numbers[at + AT.reused] = candidate.reusedTokens;
  numbers[at + AT.work] = candidate.workSeconds;
  numbers[at + AT.speed] = candidate.speed;
  numbers[at + AT.signalAge] = signalAgeMs ?? Number.NaN;
  let place = at + AT.terms;
  for (const term of TERMS) {
    numbers[place] = terms[term];
    place += 1;
  }
}

function read(numbers: Float64Array, at: number): Numbers {
  const number = (place: number): number => numbers[at + place] ?? 0;
  const term = (name: (typeof TERMS)[number]): number => number(AT.terms + TERMS.indexOf(name));
  const signalAgeMs = number(AT.signalAge);
  return {
    costSeconds: number(AT.cost),
    reusedTokens: number(AT.reused),
    workSeconds: number(AT.work),
    speed: number(AT.speed),
    signalAgeMs: Number.isNaN(signalAgeMs) ? null : signalAgeMs,
    terms: {
      queue: term("queue"),
      prefill: term("prefill"),
      externality: term("externality"),
      interference: term("interference"),
      kvPressure: term("kvPressure"),
      kvMemory: term("kvMemory"),
      faults: term("faults"),
      surplus: term("surplus"),
      spend: term("spend"),
      warmup: term("warmup"),
    },
  };
}
