/**
 * The simulate protocol, version 1: what a simulator says to a router under test, and its answers.
 *
 * Fields have the wire's names, so that a message is its own JSON. Times are simulated seconds, never
 * decreasing; token and block counts are integers. A block hash identifies its whole prefix.
 */

export type PodRole = "both" | "prefill" | "decode";
/** ready: may be given requests; draining: keeps what it serves; gone: dead, its KV is lost. */
export type PodState = "ready" | "draining" | "gone";
export type KvTier = "gpu" | "cpu" | "disk";

/** A nominal pod, of speed 1; speeds of pods are not told. */
export interface ModelFacts {
  readonly prefill_s_per_token: number;
  readonly attn_s_per_pair: number;
  readonly decode_s_per_ctx_token: number;
  readonly step_base_s: number;
  /** Tokens that a pod prefills in one step. */
  readonly chunk_tokens: number;
  readonly kv_bytes_per_token: number;
  /** Bytes per second from CPU memory into the GPU; 0: there is no such tier. */
  readonly cpu_bw: number;
  readonly disk_bw: number;
}

export interface PodFacts {
  readonly id: string;
  readonly state: PodState;
  readonly role: PodRole;
  /** Tokens of the GPU's KV pool. */
  readonly kv_tokens: number;
  readonly max_seqs: number;
  readonly tiers: readonly KvTier[];
}

export interface InitMessage {
  readonly op: "init";
  readonly v: number;
  readonly t: number;
  /** Number of this router among `replicas`, from 0; seeds its chance. */
  readonly replica: number;
  readonly replicas: number;
  /** Tokens per block. */
  readonly block_size: number;
  readonly pods: readonly PodFacts[];
  readonly model: ModelFacts;
}

export interface PodMessage {
  readonly op: "pod";
  readonly t: number;
  readonly pod: string;
  readonly state: PodState;
}

/** A set for each (pod, tier): a block removed once is gone, however often it was stored. */
export interface KvMessage {
  readonly op: "kv";
  readonly t: number;
  readonly pod: string;
  readonly type: "stored" | "removed";
  readonly tier: KvTier;
  readonly blocks: readonly number[];
}

export interface MetricsMessage {
  readonly op: "metrics";
  readonly t: number;
  readonly pod: string;
  readonly scraped_at: number;
  readonly waiting: number;
  readonly running: number;
  /** Share of the KV blocks that running requests reference, 0 to 1. */
  readonly kv_usage: number;
}

export interface RouteMessage {
  readonly op: "route";
  readonly t: number;
  readonly id: number | string;
  /** Hash of the conversation. */
  readonly session: string;
  readonly input_tokens: number;
  /** All full blocks of the prompt, in order. */
  readonly blocks: readonly number[];
  /** Pods that refused it. */
  readonly exclude: readonly string[];
}

export interface FirstTokenMessage {
  readonly op: "first_token";
  readonly t: number;
  readonly id: number | string;
}

/** Each of the requests streamed `tokens` more tokens. */
export interface ProgressMessage {
  readonly op: "progress";
  readonly t: number;
  readonly pod: string;
  readonly ids: readonly (number | string)[];
  readonly tokens: number;
}

export interface FinishMessage {
  readonly op: "finish";
  readonly t: number;
  readonly id: number | string;
  readonly output_tokens: number;
  /** False: the pod died, and the request will be routed again. */
  readonly ok: boolean;
}

/** The same id is routed again, without this pod. */
export interface RefusedMessage {
  readonly op: "refused";
  readonly t: number;
  readonly id: number | string;
  readonly pod: string;
}

export interface PeerMessage {
  readonly op: "peer";
  readonly t: number;
  readonly share: string;
}

export interface EndMessage {
  readonly op: "end";
}

export type SimulateMessage =
  | InitMessage
  | PodMessage
  | KvMessage
  | MetricsMessage
  | RouteMessage
  | FirstTokenMessage
  | ProgressMessage
  | FinishMessage
  | RefusedMessage
  | PeerMessage
  | EndMessage;

export interface InitAnswer {
  readonly ok: true;
}

export interface RouteAnswer {
  /** Null: no pod, or held; it is asked again after 250 ms. */
  readonly pod: string | null;
  /** In fleets with prefill and decode pods. */
  readonly decode_pod?: string | null;
  /** For the other replicas, as their `peer`; no quotes in it. */
  readonly share?: string;
}

export type SimulateAnswer = InitAnswer | RouteAnswer;

/** Tells of what it could not use. */
export interface CountingRouter extends SimulatedRouter {
  /** Messages about pods that `init` did not name, and all that came before it. */
  readonly ignoredMessages: number;
}

/** Anything that routes in simulated time: this router in process, a policy, a process beside. */
export interface SimulatedRouter {
  /** Answers init and route; null for every other message. Never throws on a read message. */
  handle(message: SimulateMessage): SimulateAnswer | null;
}
