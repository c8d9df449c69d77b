/** What is configured about an endpoint; what is measured about it is in signals.ts. */
import type { EngineName } from "../core/engine-name.ts";
import type { EndpointId } from "../core/ids.ts";

export interface KvEventSource {
  readonly engine: EngineName;
  /**
   * ZMQ address of rank 0 that the engine binds, "tcp://host:port"; rank r is at port + r. With
   * trtllm the URL that is polled for events.
   */
  readonly address: string;
  /** Data-parallel ranks behind the endpoint, at least 1. */
  readonly ranks: number;
  /** ZMQ address of rank 0's replay socket, ranks as above; null: gaps cannot be healed. */
  readonly replay: string | null;
  /** ZMQ topic prefix to subscribe to; empty for all. */
  readonly topic: string;
}

/** both: whole requests; prefill and decode: the two halves of one, in fleets that split them. */
export type EndpointRole = "both" | "prefill" | "decode";

/** What the operator states about a class of accelerators. */
export interface Accelerator {
  /** Stated prefill rate over that of a nominal endpoint: what its speed begins with, over 0. */
  readonly speed: number;
  /** 0: not stated. */
  readonly dollarsPerHour: number;
}

export interface EndpointSpec {
  readonly id: EndpointId;
  /** For people; unique in the fleet. */
  readonly name: string;
  readonly pool: string;
  /** Base model that the endpoint serves. Any other model name in a request is a LoRA adapter's. */
  readonly model: string;
  readonly role: EndpointRole;
  /** Tokens of the GPU's KV pool; null: as its metrics say. */
  readonly poolTokens: number | null;
  /** Null: the engine publishes no KV events, and its blocks are assumed from answered requests. */
  readonly kvEvents: KvEventSource | null;
  /** URL of the engine's Prometheus metrics; null: none are scraped. */
  readonly metricsUrl: string | null;
  /** A draining endpoint gets no new requests. */
  readonly isDraining: boolean;
  /** Null: nothing is stated. */
  readonly accelerator: Accelerator | null;
}
