/**
 * The write path's front: one subscription and one relay per (endpoint, rank), following the fleet.
 *
 * Socket -> frames -> decoder -> relay -> sink; the sink is the applier (direct) or the log (NATS).
 */
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import { type Holder, holderName } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Residency } from "../indexer/residency.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { parseFrames } from "./frames.ts";
import { HolderRelay } from "./holder-relay.ts";
import type { KeyedBatch, KeyedSink } from "./keyed-batch.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";
import { readZmqEvents, type ZmqSource } from "./zmq-subscriber.ts";

/** Where one holder's events come from. */
export interface EventSource extends ZmqSource {
  readonly holder: Holder;
  readonly model: string;
}

export interface IngestDeps {
  readonly hasher: BlockHasher;
  readonly residency: Residency;
  readonly sink: KeyedSink;
  /** Resolves when the log's tail is adopted; live events wait in their sockets until then. */
  readonly ready: Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

interface Subscription {
  readonly source: EventSource;
  readonly relay: HolderRelay;
  readonly abort: AbortController;
  readonly task: Promise<void>;
}

export class Ingest {
  readonly #deps: IngestDeps;
  readonly #subscriptions = new Map<string, Subscription>();

  constructor(deps: IngestDeps) {
    this.#deps = deps;
  }

  /** Subscribes to new sources, and drops those that are gone, with all their blocks. */
  reconcile(sources: readonly EventSource[]): void {
    const wanted = new Map(sources.map((source) => [holderName(source.holder), source]));
    for (const [name, { source, abort }] of this.#subscriptions) {
      if (isSameSource(source, wanted.get(name))) continue;
      abort.abort();
      this.#subscriptions.delete(name);
    }
    for (const holder of this.#deps.residency.holders()) {
      if (!wanted.has(holderName(holder))) this.#deps.residency.forget(holder);
    }
    for (const [name, source] of wanted) {
      if (!this.#subscriptions.has(name)) this.#subscriptions.set(name, this.#subscribe(source));
    }
  }

  /** Lets the relays follow what an earlier process published. */
  adopt(batch: KeyedBatch): void {
    this.#subscriptions.get(holderName(batch.holder))?.relay.adopt(batch);
  }

  async stop(): Promise<void> {
    const subscriptions = [...this.#subscriptions.values()];
    this.#subscriptions.clear();
    for (const { abort } of subscriptions) abort.abort();
    await Promise.all(subscriptions.map(({ task }) => task));
  }

  #subscribe(source: EventSource): Subscription {
    const relay = this.#restoredRelay(source);
    const abort = new AbortController();
    const { clock, log, ready } = this.#deps;
    const onFrames = (frames: readonly Uint8Array[]): void => this.#receive(relay, frames);
    const onViolation = (): void =>
      this.#refuse(relay, "protocol-violation", `connection to ${source.address} opened anew`);
    const reader = { clock, ready, onFrames, onViolation, signal: abort.signal };
    const task = readZmqEvents(source, reader).catch((error: unknown) => {
      const fields = { holder: holderName(source.holder), address: source.address };
      log.error({ ...fields, error: messageOf(error) }, "KV event subscription failed");
    });
    return { source, relay, abort, task };
  }

  #restoredRelay({ holder, model }: EventSource): HolderRelay {
    const { hasher, residency } = this.#deps;
    const relay = new HolderRelay({ holder, model, hasher });
    const cursor = residency.cursorOf(holder);
    if (cursor === null) return relay;
    relay.restoreCursor(cursor);
    if (cursor.model !== model) return relay;
    for (const [handle, { key, copies }] of residency.records(holder)) {
      relay.restoreHandle(handle, key, sum(copies));
    }
    return relay;
  }

  #receive(relay: HolderRelay, frames: readonly Uint8Array[]): void {
    const { meter, sink } = this.#deps;
    const { endpointId } = relay.holder;
    meter.count("kvatlas_events_messages_total", { endpoint: endpointId });
    const message = parseFrames(frames);
    if (!message.ok) {
      this.#refuse(relay, message.reason, message.detail);
      return;
    }
    const decoded = decodeVllmBatch(message.value.payload);
    if (!decoded.ok) this.#refuse(relay, decoded.reason, decoded.detail);
    const batch = relay.relay(message.value.seq, decoded.ok ? decoded.value : null);
    if (batch === null) meter.count("kvatlas_events_refused_total", { reason: "duplicate" });
    else sink.accept(batch);
  }

  #refuse(relay: HolderRelay, reason: string, detail: string): void {
    this.#deps.meter.count("kvatlas_events_refused_total", { reason });
    const fields = { holder: holderName(relay.holder), reason, detail };
    this.#deps.log.warn(fields, "KV event message refused");
  }
}

function isSameSource(source: EventSource, wanted: EventSource | undefined): boolean {
  return (
    wanted !== undefined &&
    wanted.address === source.address &&
    wanted.topic === source.topic &&
    wanted.model === source.model
  );
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
