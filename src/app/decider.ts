/**
 * The border between serving a request and deciding it: what was read of the request goes over, the
 * outcome comes back, and the phases of its answer follow. See Picker for when which is called.
 */
import type { Picker, PickOutcome } from "../extproc/picker.ts";
import type { PromptKeys, PromptReading } from "../prompt/prompt-reader.ts";
import type { RequestWishes } from "../router/decision-record.ts";

/** What was read of a request's body. */
export interface ReadPrompt
  extends Pick<
    PromptReading,
    "source" | "reason" | "tokens" | "prompts" | "inputTokens" | "isFirstTokenShown"
  > {
  /** Of its tokens; null: they are not known. */
  readonly keys: PromptKeys | null;
  /** See PromptReader.chunkKeysOf. */
  readonly chunkKeys: BigUint64Array;
}

export interface AskedRequest {
  readonly requestId: string;
  /** See PickRequest. */
  readonly subset: readonly string[] | null;
  /** Bytes of its body. */
  readonly bytes: number;
  readonly wishes: RequestWishes;
  /** Null: the body was not read. */
  readonly read: ReadPrompt | null;
}

type Outcome = PickOutcome | Promise<PickOutcome>;

export interface Decider
  extends Pick<Picker, "responseStarted" | "firstByte" | "progressed" | "ended"> {
  /** As Picker.pick. */
  decide(asked: AskedRequest, signal: AbortSignal, onHeld: () => void): Outcome;
  /** Holds no request. */
  decideNow(asked: AskedRequest): Outcome;
}
