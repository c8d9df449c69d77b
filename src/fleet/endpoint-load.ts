/** What one router's own requests are at an endpoint: the main load signal, because it is never late. */

/** First tokens after which an endpoint counts as warm. */
export const WARMUP_ANSWERS = 3;

/** A live picture: the ledger keeps it current, everybody else reads it. */
export interface EndpointLoad {
  /** waiting + decoding */
  readonly requests: number;
  /** Requests without first token. */
  readonly waiting: number;
  readonly decoding: number;
  /** Work of the waiting requests as estimated at dispatch, seconds of a nominal endpoint. */
  readonly pendingSeconds: number;
  /**
   * When the service of the oldest waiting request began: when the endpoint became busy, or the
   * last first token. Monotonic ms; of no meaning while nothing waits.
   */
  readonly headSinceMs: number;
  /** Prompt and streamed tokens of the decoding requests: the context that each step reads. */
  readonly contextTokens: number;
  /** Tokens streamed by all requests. */
  readonly generatedTokens: number;
  /** Tokens of the full blocks of all requests, shared ones counted once. */
  readonly blockTokens: number;
  /** Tokens per block of `blockTokens`; 0 before the first request. */
  readonly blockSizeTokens: number;
  /** As the decode endpoint of a prefill/decode pair: requests, and their prompt and streamed tokens. */
  readonly pairedRequests: number;
  readonly pairedTokens: number;
  /** Work of all requests that had their first token, since the endpoint is known, seconds. */
  readonly servedSeconds: number;
  /** Requests that had their first token since the endpoint is new. */
  readonly answers: number;
  /** Learned prefill speed: 1 is nominal, 2 is twice as fast. */
  readonly speed: number;
}

export const IDLE_LOAD: EndpointLoad = Object.freeze({
  requests: 0,
  waiting: 0,
  decoding: 0,
  pendingSeconds: 0,
  headSinceMs: 0,
  contextTokens: 0,
  generatedTokens: 0,
  blockTokens: 0,
  blockSizeTokens: 0,
  pairedRequests: 0,
  pairedTokens: 0,
  servedSeconds: 0,
  answers: 0,
  speed: 1,
});

/** What is left of the pending work: the head has been in service since `headSinceMs`. Seconds. */
export function remainingSeconds(load: EndpointLoad, nowMs: number): number {
  if (load.waiting === 0) return 0;
  const servedSeconds = (load.speed * Math.max(0, nowMs - load.headSinceMs)) / 1000;
  return Math.max(0, load.pendingSeconds - servedSeconds);
}

/** 1 for an endpoint that has answered nothing yet, 0 for one that is warm. */
export function coldness({ answers }: EndpointLoad): number {
  return Math.max(0, 1 - answers / WARMUP_ANSWERS);
}

/** KV tokens of all requests: blocks, half a block at the end of each, and what they streamed. */
export function kvTokens(load: EndpointLoad): number {
  const { blockTokens, blockSizeTokens, requests, generatedTokens } = load;
  return blockTokens + (blockSizeTokens / 2) * requests + generatedTokens;
}
