/** Work to be sent: what, and when. The same plan can be sent again to compare two ways of routing. */

export interface PlannedRequest {
  /** Sent this long after the start, ms; for a later turn of a conversation an estimate. */
  readonly dueMs: number;
  /** A later turn: sent `thinkMs` after the answer of the request at this place in the plan. */
  readonly after: { readonly index: number; readonly thinkMs: number } | null;
  readonly prompt: Uint32Array;
  readonly outputTokens: number;
}

export interface OfferedLoad {
  /** Length of the arrivals. */
  readonly seconds: number;
  /** Prompt tokens that no earlier prompt had, per second: what good routing has to compute. */
  readonly newTokensPerSecond: number;
}

export interface PlannedWork {
  /** In order of `dueMs`. */
  readonly requests: readonly PlannedRequest[];
  /** What the work is, in words: one line each. */
  readonly description: readonly string[];
}
