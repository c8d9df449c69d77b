/**
 * Learned prefill speed of each endpoint, from the time between one first token and the next.
 *
 * The fleet's median carries the error of the cost model: a model that is twice too dear makes every
 * endpoint look twice as fast, which is then true. An endpoint near the median has the median's speed,
 * so that noise moves no request.
 */

/** Weight that what was learned keeps with each first token: some 200 of them count. */
const DECAY = 0.995;
/** Seconds of work and service that an endpoint begins with, so that little evidence says little. */
const PRIOR_SECONDS = 2;
/** Ratio to the median within which an endpoint counts as equal to it. */
const EQUAL_RATIO = 1.35;

export interface SpeedEvidence {
  /** Decayed sum of the work that was served, nominal seconds. */
  workSeconds: number;
  /** Decayed sum of the time that it took, seconds. */
  busySeconds: number;
  /** What the endpoint is stated to be, before anything is learned: 1 is nominal. */
  statedSpeed: number;
  speed: number;
}

/** One request of `workSeconds` was served in `busySeconds`. Both >= 0. */
export function learn(evidence: SpeedEvidence, workSeconds: number, busySeconds: number): void {
  evidence.workSeconds = DECAY * evidence.workSeconds + workSeconds;
  evidence.busySeconds = DECAY * evidence.busySeconds + busySeconds;
}

/** Sets the speed of each endpoint. Cost: a sort of the fleet. */
export function settleSpeeds(fleet: readonly SpeedEvidence[]): void {
  const median = medianOf(Float64Array.from(fleet, rawSpeed));
  for (const evidence of fleet) {
    const ratio = rawSpeed(evidence) / median;
    const isEqual = ratio > 1 / EQUAL_RATIO && ratio < EQUAL_RATIO;
    evidence.speed = isEqual ? median : median * ratio;
  }
}

function rawSpeed({ workSeconds, busySeconds, statedSpeed }: SpeedEvidence): number {
  return (workSeconds + PRIOR_SECONDS * statedSpeed) / (busySeconds + PRIOR_SECONDS);
}

function medianOf(values: Float64Array): number {
  values.sort();
  const middle = values.length >> 1;
  const upper = values[middle] ?? 1;
  return values.length % 2 === 1 ? upper : ((values[middle - 1] ?? upper) + upper) / 2;
}
