/**
 * What was predicted for a request against the cached tokens that its engine reported.
 *
 * A prediction that was right when it was made and whose blocks were evicted before the request ran
 * says nothing against what is known of the endpoint; it is counted as `stale` and left out. So
 * that the events of such evictions are there, a sample is judged a while after its answer. Pure:
 * the caller brings the time.
 */
import type { EndpointId } from "../core/ids.ts";

/** Wait for the events that belong to an answer, ms. */
const SETTLE_MS = 2_000;
/** Samples that wait; more are left out and counted as `dropped`. */
const PENDING_SAMPLES_MAX = 65_536;
/** Judged samples with a prediction below which an endpoint is neither trusted nor blamed. */
const SAMPLES_MIN = 20;
/** Weight that a sample keeps with each one behind it: some 20 samples count. */
const DECAY = 0.95;
/** Mean share of the prompt that was claimed in excess, beyond which an endpoint has drifted. */
const DRIFT_RATIO = 0.15;
/** Between two resynchronisations of an endpoint, doubled by each that did not help, ms. */
const COOLDOWN_MS = 300_000;
const COOLDOWN_MS_MAX = 3_600_000;
/** Answers without cached tokens after which an engine counts as one that does not tell them. */
const UNREPORTED_MIN = 10;

/**
 * - exact: within one block
 * - over: the engine had less cached than was predicted
 * - under: it had more
 * - stale: it had less, because the blocks were evicted meanwhile
 * - dropped: not judged, too many samples waited
 * - superseded: not judged, the endpoint was resynchronised meanwhile
 */
export type AuditOutcome = "exact" | "over" | "under" | "stale" | "dropped" | "superseded";

/**
 * - pending: too few samples
 * - ok, drifted: by the mean of the over-claims
 * - unavailable: the engine does not report cached tokens
 */
export type AuditState = "pending" | "ok" | "drifted" | "unavailable";

export interface AuditSample {
  readonly endpointId: EndpointId;
  readonly inputTokens: number;
  /** Tokens that the decision counted on. */
  readonly predictedTokens: number;
  /** Tokens held in any tier as far as was known; at least `predictedTokens`. */
  readonly heldTokens: number;
  readonly deliveredTokens: number;
  readonly blockSizeTokens: number;
  /** Whether the end of the predicted prefix was evicted since the decision. */
  readonly isEvicted: () => boolean;
  /** Called once when the sample is judged or dropped. */
  readonly release: () => void;
}

export interface AuditReport {
  readonly state: AuditState;
  /** Decayed means, shares of the prompt, 0 to 1. */
  readonly overRatio: number;
  readonly underRatio: number;
  /** Judged samples since the start or the last resynchronisation. */
  readonly samples: number;
  readonly resyncs: number;
}

interface Score {
  over: number;
  under: number;
  /** Sums of the decayed weights. */
  overWeight: number;
  underWeight: number;
  samples: number;
  /** Samples that predicted more than one block. */
  claims: number;
  unreported: number;
  isReported: boolean;
  resyncs: number;
  cooldownMs: number;
  resyncedMs: number | null;
}

export interface AuditDeps {
  readonly onOutcome: (endpointId: EndpointId, outcome: AuditOutcome) => void;
}

export class Audit {
  readonly #deps: AuditDeps;
  readonly #scores = new Map<EndpointId, Score>();
  #pending: { readonly sample: AuditSample; readonly atMs: number }[] = [];

  constructor(deps: AuditDeps) {
    this.#deps = deps;
  }

  /** An answer whose engine told its cached tokens. */
  answered(sample: AuditSample, nowMs: number): void {
    this.#scoreOf(sample.endpointId).isReported = true;
    if (this.#pending.length < PENDING_SAMPLES_MAX) this.#pending.push({ sample, atMs: nowMs });
    else this.#finish(sample, "dropped");
  }

  /** An answer whose engine did not tell them. */
  unreported(endpointId: EndpointId): void {
    this.#scoreOf(endpointId).unreported += 1;
  }

  /**
   * Judges what has settled; returns the endpoints that were resynchronised. `resync` does it, and says
   * whether it could: where it could not, the endpoint stays drifted. Called now and then.
   */
  judge(nowMs: number, resync: (endpointId: EndpointId) => boolean = () => true): EndpointId[] {
    const settled = this.#pending.findIndex(({ atMs }) => nowMs - atMs < SETTLE_MS);
    const due = this.#pending.splice(0, settled < 0 ? this.#pending.length : settled);
    for (const { sample } of due) this.#finish(sample, this.#judgeOne(sample));
    return [...this.#scores].flatMap(([endpointId, score]) => {
      if (stateOf(score) !== "drifted") return [];
      const isCooling = score.resyncedMs !== null && nowMs - score.resyncedMs < score.cooldownMs;
      if (isCooling || !resync(endpointId)) return [];
      this.#startAnew(endpointId, score, nowMs);
      return [endpointId];
    });
  }

  report(endpointId: EndpointId): AuditReport {
    const score = this.#scores.get(endpointId) ?? newScore();
    const { samples, resyncs } = score;
    return {
      state: stateOf(score),
      overRatio: mean(score.over, score.overWeight),
      underRatio: mean(score.under, score.underWeight),
      samples,
      resyncs,
    };
  }

  /** Drops the endpoints that are not in the fleet any more. */
  keep(endpoints: ReadonlySet<EndpointId>): void {
    for (const endpointId of this.#scores.keys()) {
      if (!endpoints.has(endpointId)) this.#scores.delete(endpointId);
    }
  }

  #judgeOne(sample: AuditSample): AuditOutcome {
    const { predictedTokens, heldTokens, deliveredTokens, blockSizeTokens, inputTokens } = sample;
    const over = predictedTokens - deliveredTokens;
    const under = deliveredTokens - heldTokens;
    const isOver = over > blockSizeTokens;
    if (isOver && sample.isEvicted()) return "stale";
    const isUnder = under > blockSizeTokens;
    const score = this.#scoreOf(sample.endpointId);
    const prompt = Math.max(1, inputTokens);
    score.samples += 1;
    score.under = DECAY * score.under + (isUnder ? Math.min(1, under / prompt) : 0);
    score.underWeight = DECAY * score.underWeight + 1;
    // A request without a prediction cannot show an excess, and must not hide those of others.
    if (predictedTokens > blockSizeTokens) {
      score.claims += 1;
      score.over = DECAY * score.over + (isOver ? Math.min(1, over / prompt) : 0);
      score.overWeight = DECAY * score.overWeight + 1;
    }
    if (isOver) return "over";
    return isUnder ? "under" : "exact";
  }

  #finish(sample: AuditSample, outcome: AuditOutcome): void {
    sample.release();
    this.#deps.onOutcome(sample.endpointId, outcome);
  }

  /** Samples from before say nothing about what is learned from now on. */
  #startAnew(endpointId: EndpointId, score: Score, nowMs: number): void {
    const isOld = (sample: AuditSample): boolean => sample.endpointId === endpointId;
    for (const { sample } of this.#pending) {
      if (isOld(sample)) this.#finish(sample, "superseded");
    }
    this.#pending = this.#pending.filter(({ sample }) => !isOld(sample));
    const { resyncedMs, cooldownMs, resyncs, isReported } = score;
    const isRepeated = resyncedMs !== null && nowMs - resyncedMs < 2 * cooldownMs;
    this.#scores.set(endpointId, {
      ...newScore(),
      isReported,
      resyncs: resyncs + 1,
      resyncedMs: nowMs,
      cooldownMs: isRepeated ? Math.min(2 * cooldownMs, COOLDOWN_MS_MAX) : COOLDOWN_MS,
    });
  }

  #scoreOf(endpointId: EndpointId): Score {
    const score = this.#scores.get(endpointId) ?? newScore();
    this.#scores.set(endpointId, score);
    return score;
  }
}

function stateOf(score: Score): AuditState {
  if (!score.isReported) return score.unreported < UNREPORTED_MIN ? "pending" : "unavailable";
  if (score.claims < SAMPLES_MIN) return "pending";
  return mean(score.over, score.overWeight) > DRIFT_RATIO ? "drifted" : "ok";
}

function mean(sum: number, weight: number): number {
  return weight === 0 ? 0 : sum / weight;
}

function newScore(): Score {
  return {
    ...{ over: 0, under: 0, overWeight: 0, underWeight: 0, samples: 0, claims: 0, unreported: 0 },
    ...{ isReported: false, resyncs: 0, cooldownMs: COOLDOWN_MS, resyncedMs: null },
  };
}
