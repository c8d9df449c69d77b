/** What the deciding thread and those that serve tell each other. Plain data only. */
import type { Config } from "../config/schema.ts";
import type { ErrorCode } from "../core/errors.ts";
import type { EndpointId } from "../core/ids.ts";
import type { TlsMaterial } from "../extproc/file-tls.ts";
import type { EndOfRequest, PickOutcome } from "../extproc/picker.ts";
import type { MeterTape } from "../observe/meter-tape.ts";
import type { AskedRequest, ReadPrompt } from "./decider.ts";

/** With which a serving thread begins. */
export interface EdgeWorkerData {
  readonly config: Config;
  /** host:port of the ext_proc service. */
  readonly address: string;
  /** Null: plain HTTP/2. */
  readonly tls: TlsMaterial | null;
  /** See BodyBudget: one cell for each thread, of which this one's is at `slot`. */
  readonly bodyBytes: SharedArrayBuffer;
  readonly slot: number;
  readonly seed: number;
  readonly fleet: ToldFleet;
}

/** Ready endpoints, those with the least work first. */
export interface ToldFleet {
  readonly ready: readonly EndpointId[];
  /** Those of them that serve requests whole. */
  readonly whole: readonly EndpointId[];
}

/** A request with the keys of its prompt, by block size. */
export interface KeyedRequest extends Omit<AskedRequest, "read"> {
  readonly read: KeyedPrompt | null;
}

/** Its tokens are told where the fleet has blocks of several sizes: see PromptKeys.keysBehind. */
export interface KeyedPrompt extends Omit<ReadPrompt, "keys"> {
  /** Null: its tokens are not known. */
  readonly keysBySize: ReadonlyMap<number, BigUint64Array> | null;
}

/** Of one request each, by its number; numbers are one thread's own. */
export type Asking =
  | {
      readonly kind: "ask";
      readonly n: number;
      readonly request: KeyedRequest;
      /** See Decider.decideNow. */
      readonly isNow: boolean;
      /** Nobody waits for the outcome any more after that time, ms; null: it is always wanted. */
      readonly untilMs: number | null;
    }
  /** The outcome is not wanted, and a route that was given is none. */
  | { readonly kind: "withdraw"; readonly n: number }
  | {
      readonly kind: "started";
      readonly n: number;
      readonly status: number;
      readonly servedBy: string | null;
    }
  | { readonly kind: "first-byte"; readonly n: number }
  | { readonly kind: "progress"; readonly n: number; readonly tokens: number }
  | { readonly kind: "ended"; readonly n: number; readonly end: EndOfRequest };

export type Deciding =
  | { readonly kind: "outcome"; readonly n: number; readonly outcome: PickOutcome }
  /** It waits on purpose; the outcome follows. */
  | { readonly kind: "held"; readonly n: number }
  /** To be asked anew, with keys of these block sizes, which are those of the fleet. */
  | { readonly kind: "again"; readonly n: number; readonly blockSizes: readonly number[] }
  | { readonly kind: "failed"; readonly n: number; readonly error: string };

export type ToEdge =
  | { readonly kind: "deciding"; readonly messages: readonly Deciding[] }
  | { readonly kind: "fleet"; readonly fleet: ToldFleet }
  | { readonly kind: "ready"; readonly isReady: boolean }
  | { readonly kind: "tls"; readonly tls: TlsMaterial }
  /** Answered by "told" with the number of open streams, as EdgeListener.idle. */
  | { readonly kind: "idle"; readonly id: number; readonly waitMs: number }
  /** Answered by "told", after all that was counted by then. */
  | { readonly kind: "tell"; readonly id: number }
  | { readonly kind: "stop" };

/** Beside what every thread tells; see FromThread. */
export type FromEdge =
  /** First of all: it serves. */
  | { readonly kind: "open" }
  /** It does not, and ends. */
  | { readonly kind: "refused"; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: "asking"; readonly messages: readonly Asking[] }
  | { readonly kind: "meter"; readonly tape: MeterTape };
