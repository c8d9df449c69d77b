/**
 * The write path's front: one stream of events per (endpoint, rank), following the fleet.
 *
 * Their sink is the applier (direct) or the log (NATS).
 */
import { type Holder, holderName } from "../core/ids.ts";
import type { Residency } from "../indexer/residency.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { HolderRelay } from "./holder-relay.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import { EventStream, type EventStreamDeps, type EventStreamSource } from "./zmq-event-stream.ts";

/** Where one holder's events come from. */
export interface EventSource extends EventStreamSource {
  readonly holder: Holder;
  readonly model: string;
}

export interface IngestDeps extends Omit<EventStreamDeps, "relay"> {
  readonly hasher: BlockHasher;
  readonly residency: Residency;
}

interface Subscription {
  readonly source: EventSource;
  readonly stream: EventStream;
}

export class Ingest {
  readonly #deps: IngestDeps;
  readonly #subscriptions = new Map<string, Subscription>();
  /** Streams of sources that are gone, until they have ended. */
  readonly #ending = new Set<Promise<void>>();

  constructor(deps: IngestDeps) {
    this.#deps = deps;
  }

  /** Subscribes to new sources, and drops those that are gone, with all their blocks. */
  reconcile(sources: readonly EventSource[]): void {
    const wanted = new Map(sources.map((source) => [holderName(source.holder), source]));
    for (const [name, { source, stream }] of this.#subscriptions) {
      if (isSameSource(source, wanted.get(name))) continue;
      this.#subscriptions.delete(name);
      this.#end(stream);
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
    this.#subscriptions.get(holderName(batch.holder))?.stream.relay.adopt(batch);
  }

  async stop(): Promise<void> {
    const subscriptions = [...this.#subscriptions.values()];
    this.#subscriptions.clear();
    for (const { stream } of subscriptions) this.#end(stream);
    await Promise.all(this.#ending);
  }

  #subscribe(source: EventSource): Subscription {
    const stream = new EventStream(source, { ...this.#deps, relay: this.#restoredRelay(source) });
    return { source, stream };
  }

  #end(stream: EventStream): void {
    const ending = stream.stop().finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  #restoredRelay({ holder, model, replayAddress }: EventSource): HolderRelay {
    const { hasher, residency } = this.#deps;
    const canReplay = replayAddress !== null;
    const relay = new HolderRelay({ holder, model, hasher, canReplay });
    const cursor = residency.cursorOf(holder);
    if (cursor === null) return relay;
    relay.restoreCursor(cursor);
    if (cursor.model !== model) return relay;
    for (const [handle, { key, copies }] of residency.records(holder)) {
      relay.restoreHandle(handle, key, sum(copies));
    }
    return relay;
  }
}

function isSameSource(source: EventSource, wanted: EventSource | undefined): boolean {
  return (
    wanted !== undefined &&
    wanted.engine === source.engine &&
    wanted.address === source.address &&
    wanted.replayAddress === source.replayAddress &&
    wanted.topic === source.topic &&
    wanted.model === source.model
  );
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
