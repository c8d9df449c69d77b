/** A request of a simulation: lengths and block ids in place of text. */

export interface SimRequest {
  readonly atSeconds: number;
  /** Conversation that it belongs to. */
  readonly session: string;
  readonly inputTokens: number;
  /** From 1; nobody but the pod that makes them knows the number. */
  readonly outputTokens: number;
  /** Full blocks of the prompt, in order; an id stands for the block with all that is before it. */
  readonly blocks: readonly number[];
  /**
   * Blocks that the answer fills behind those of the prompt, as far as a later turn names them; the
   * rest of the answer can be reused by nobody.
   */
  readonly answerBlocks: readonly number[];
}
