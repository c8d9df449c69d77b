/**
 * A decision as it is told: bounded, plain values, no prompt. Pure.
 *
 * The costs, terms and ages are those of the moment of the decision; times are in ms.
 */
import { assert } from "../core/assert.ts";
import type { Candidate, Routed } from "./decide.ts";
import { type KeptCandidate, type KeptDecision, keptCandidate } from "./kept-decision.ts";
import { stateText } from "./known-state.ts";
import type { CapState } from "./popularity-cap.ts";

export type CostTermName = keyof Candidate["terms"];

export interface CandidateRecord {
  readonly endpoint: string;
  readonly costMs: number;
  /** Its terms, in ms; the cost is their sum. */
  readonly termsMs: Readonly<Record<CostTermName, number>>;
  readonly reusedTokens: number;
  readonly tokensByTier: KeptCandidate["tokensByTier"];
  /** Own work of the request at a nominal endpoint, ms. */
  readonly workMs: number;
  readonly speed: number;
  /** Null: nothing was scraped. */
  readonly signalAgeMs: number | null;
  /** EXACT, DEGRADED(reason) or FALLBACK(reason). */
  readonly state: string;
  /** Null: the prompt has no popular prefix. */
  readonly cap: CapRecord | null;
}

/** The popular prefix at one endpoint. */
export interface CapRecord {
  readonly outstandingMs: number;
  /** What it may have outstanding with this request, ms. */
  readonly limitMs: number;
  readonly isCapped: boolean;
  readonly holder: CapState["holder"];
}

/**
 * What tells how much of the prompt each endpoint holds:
 * - tokens: the keys of its tokens
 * - approximate: chunks of its text, because its tokens were not there in time
 * - none: nothing; by load alone
 */
export type MatchedBy = "tokens" | "approximate" | "none";

/** What the request said about how it wants to be served; null where it said nothing. */
export interface RequestWishes {
  /** Lower is sooner. */
  readonly priority: number | null;
  readonly objective: string | null;
  readonly fairnessId: string | null;
  readonly ttftSloMs: number | null;
  readonly tpotSloMs: number | null;
}

export interface DecisionRecord {
  readonly requestId: string;
  /** Unix time, ms. */
  readonly atMs: number;
  readonly inputTokens: number;
  readonly matchedBy: MatchedBy;
  readonly reason: Routed["reason"];
  readonly chosen: CandidateRecord;
  readonly decodeEndpoint: string | null;
  readonly runnerUp: CandidateRecord | null;
  /** Of all; `candidates` are the best of them. */
  readonly candidateCount: number;
  readonly candidates: readonly CandidateRecord[];
  /** Null: the prompt has no popular prefix. */
  readonly popularPrefix: KeptDecision<unknown>["popularPrefix"];
  /** Tokens that the best holder could have reused. */
  readonly possibleTokens: number;
  readonly queueMeanMs: number;
  /** Time that the router held the request, ms. */
  readonly heldMs: number;
  readonly wishes: RequestWishes;
  readonly wouldHaveChanged: readonly string[];
}

/** What is known of a request beside its decision. */
export type RecordedRequest = Pick<
  DecisionRecord,
  "requestId" | "atMs" | "inputTokens" | "matchedBy" | "heldMs" | "wishes"
>;

export function decisionRecord(kept: KeptDecision<RecordedRequest>): DecisionRecord {
  const { request, decision, popularPrefix, rests } = kept;
  const { reason, decodeEndpointId } = decision;
  const candidates = rests.flatMap((_, place) => keptCandidate(kept, place) ?? []);
  const chosen = candidates[kept.chosenAt];
  assert(chosen !== undefined, "the chosen one is kept", { at: kept.chosenAt });
  const runnerUp = candidates[kept.runnerUpAt] ?? null;
  const best = candidates.slice(0, kept.best);
  return {
    ...request,
    reason,
    chosen: candidateRecord(chosen),
    decodeEndpoint: decodeEndpointId,
    runnerUp: runnerUp === null ? null : candidateRecord(runnerUp),
    candidateCount: kept.candidateCount,
    candidates: best.map(candidateRecord),
    popularPrefix:
      popularPrefix === null
        ? null
        : { ...popularPrefix, workRate: Math.round(popularPrefix.workRate * 100) / 100 },
    possibleTokens: decision.possibleTokens,
    queueMeanMs: milliseconds(decision.queueMeanSeconds),
    wouldHaveChanged: changes({ chosen, runnerUp, reason }, best),
  };
}

function capRecord({ outstandingSeconds, limitSeconds, isCapped, holder }: CapState): CapRecord {
  return {
    outstandingMs: milliseconds(outstandingSeconds),
    limitMs: milliseconds(limitSeconds),
    ...{ isCapped, holder },
  };
}

function candidateRecord(candidate: KeptCandidate): CandidateRecord {
  const { terms, signalAgeMs } = candidate;
  const termsMs = {
    queue: milliseconds(terms.queue),
    prefill: milliseconds(terms.prefill),
    externality: milliseconds(terms.externality),
    interference: milliseconds(terms.interference),
    kvPressure: milliseconds(terms.kvPressure),
    kvMemory: milliseconds(terms.kvMemory),
    faults: milliseconds(terms.faults),
    surplus: milliseconds(terms.surplus),
    spend: milliseconds(terms.spend),
    warmup: milliseconds(terms.warmup),
  };
  return {
    endpoint: candidate.endpointId,
    costMs: milliseconds(candidate.costSeconds),
    termsMs,
    reusedTokens: candidate.reusedTokens,
    tokensByTier: candidate.tokensByTier,
    workMs: milliseconds(candidate.workSeconds),
    speed: Math.round(candidate.speed * 100) / 100,
    signalAgeMs: signalAgeMs === null ? null : Math.round(signalAgeMs),
    state: stateText(candidate.known),
    cap: candidate.cap === null ? null : capRecord(candidate.cap),
  };
}

/** What would have sent the request elsewhere, had it been otherwise: single terms where one is enough. */
function changes(
  { chosen, runnerUp, reason }: Changeable,
  best: readonly KeptCandidate[],
): string[] {
  if (reason === "popularity-cap" || reason === "next-holder") {
    const cheapest = best[0];
    const name = cheapest?.endpointId ?? "another";
    return [`without the popularity cap it would have gone to ${name}`];
  }
  if (reason !== "cheapest" || runnerUp === null) return [];
  const marginSeconds = runnerUp.costSeconds - chosen.costSeconds;
  const dearer = termNames(chosen)
    .map((name) => ({ name, seconds: runnerUp.terms[name] - chosen.terms[name] }))
    .filter(({ seconds }) => seconds > 0)
    .sort((a, b) => b.seconds - a.seconds);
  if (dearer.length === 0) return [`${runnerUp.endpointId} cost as much: chance decided`];
  const alone = dearer.filter(({ seconds }) => seconds >= marginSeconds);
  const sets = alone.length > 0 ? alone.map((term) => [term]) : [together(dearer, marginSeconds)];
  return sets.map((terms) => {
    const names = terms.map(({ name, seconds }) => `${name} (${milliseconds(seconds)} ms less)`);
    return (
      `${runnerUp.endpointId} was ${milliseconds(marginSeconds)} ms dearer: it would have been ` +
      `taken with ${names.join(" and ")} as at ${chosen.endpointId}`
    );
  });
}

interface Changeable {
  readonly chosen: KeptCandidate;
  readonly runnerUp: KeptCandidate | null;
  readonly reason: Routed["reason"];
}

interface TermExcess {
  readonly name: CostTermName;
  readonly seconds: number;
}

/** The fewest of the terms, largest first, that make up the margin. */
function together(dearer: readonly TermExcess[], marginSeconds: number): TermExcess[] {
  let sum = 0;
  const enough = dearer.findIndex(({ seconds }) => {
    sum += seconds;
    return sum >= marginSeconds;
  });
  return dearer.slice(0, enough === -1 ? dearer.length : enough + 1);
}

function termNames({ terms }: KeptCandidate): CostTermName[] {
  return Object.keys(terms) as CostTermName[];
}

/** Tenths are kept. */
function milliseconds(seconds: number): number {
  return Math.round(seconds * 10_000) / 10;
}
