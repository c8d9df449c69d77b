/**
 * The write path's front: one stream of events per (endpoint, rank), following the fleet.
 *
 * Their sink is the applier (direct) or the log (NATS).
 */
import { type Holder, holderName } from "../core/ids.ts";
import type { Residency } from "../indexer/residency.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { isConnector } from "./connector-rule.ts";
import { HeldBudget, type HeldShare } from "./held-budget.ts";
import { HolderRelay } from "./holder-relay.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import type { HolderAsk } from "./nats-asks.ts";
import { restoreRelay } from "./restore-relay.ts";
import type { StreamFacts } from "./stream-facts.ts";
import { TrtllmPolls } from "./trtllm-polls.ts";
import { EventStream, type EventStreamDeps, type EventStreamSource } from "./zmq-event-stream.ts";

/** Where one holder's events come from. */
export interface EventSource extends EventStreamSource {
  readonly holder: Holder;
  readonly model: string;
}

export interface IngestDeps extends Omit<EventStreamDeps, "relay" | "polls"> {
  readonly hasher: BlockHasher;
  readonly residency: Residency;
  /** Life of what a connector stores, ms; default HINT_LIFE_MS. */
  readonly hintLifeMs?: number;
  /** Epoch to begin with where nothing is known of a holder; default: 1 each time. */
  readonly epochFirst?: () => number;
}

interface Subscription {
  readonly heldShare: HeldShare;
  readonly source: EventSource;
  readonly stream: EventStream;
}

export class Ingest {
  readonly #deps: IngestDeps;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #heldBudget = new HeldBudget();
  readonly #polls = new TrtllmPolls();
  #isReconciled = false;
  /** Streams of sources that are gone, until they have ended. */
  readonly #ending = new Set<Promise<void>>();

  constructor(deps: IngestDeps) {
    this.#deps = deps;
  }

  /** Subscribes to new sources, and drops those that are gone, with all their blocks. */
  reconcile(sources: readonly EventSource[]): void {
    const wanted = new Map(sources.map((source) => [holderName(source.holder), source]));
    for (const [name, subscription] of this.#subscriptions) {
      if (isSameSource(subscription.source, wanted.get(name))) continue;
      this.#subscriptions.delete(name);
      this.#end(subscription);
    }
    forgetOthers(this.#deps.residency, sources);
    for (const [name, source] of wanted) {
      if (!this.#subscriptions.has(name)) this.#subscriptions.set(name, this.#subscribe(source));
    }
    this.#isReconciled = true;
  }

  /** Whether the fleet has such a holder; true while the fleet is not known yet. */
  follows(holder: Holder): boolean {
    return !this.#isReconciled || this.#subscriptions.has(holderName(holder));
  }

  /** Drops what the log or a snapshot told of holders that the fleet does not have. */
  forgetStrangers(): void {
    const { residency } = this.#deps;
    for (const holder of residency.holders()) if (!this.follows(holder)) residency.forget(holder);
  }

  /** Lets the relays follow what an earlier process published. */
  adopt(batch: KeyedBatch): void {
    this.#subscriptions.get(holderName(batch.holder))?.stream.relay.adopt(batch);
  }

  /** What was seen on a holder's socket; null: it has none. */
  factsOf(holder: Holder): StreamFacts | null {
    return this.#subscriptions.get(holderName(holder))?.stream.facts() ?? null;
  }

  /** Newest message of a holder's socket, monotonic ms; null: none. */
  heardMsOf(holder: Holder): number | null {
    return this.#subscriptions.get(holderName(holder))?.stream.heardMs ?? null;
  }

  /** Gives up what is known of a holder, and learns it anew. False: it has no socket. */
  resync(holder: Holder): boolean {
    const subscription = this.#subscriptions.get(holderName(holder));
    subscription?.stream.resync();
    return subscription !== undefined;
  }

  /** A reader of the log asks for what an engine can tell again. */
  asked({ how, holder, epoch }: HolderAsk): void {
    const stream = this.#subscriptions.get(holderName(holder))?.stream;
    if (how === "overtake") stream?.overtake(epoch);
    if (stream?.relay.epoch !== epoch) return;
    if (how === "heal") stream.heal();
    if (how === "resync") stream.resync();
  }

  /** Lets the relays begin anew with what the residency was given of an earlier process. */
  restore(): void {
    for (const { source, stream } of this.#subscriptions.values()) {
      this.#restore(stream.relay, source);
    }
  }

  async stop(): Promise<void> {
    const subscriptions = [...this.#subscriptions.values()];
    this.#subscriptions.clear();
    for (const subscription of subscriptions) this.#end(subscription);
    await Promise.all(this.#ending);
  }

  #subscribe(source: EventSource): Subscription {
    const { hasher, epochFirst = (): number => 1 } = this.#deps;
    const { holder, model, replayAddress } = source;
    const canReplay = replayAddress !== null;
    const { hintLifeMs } = this.#deps;
    const heldShare = this.#heldBudget.share();
    const relay = new HolderRelay({
      heldShare,
      ...{ holder, model, hasher, canReplay, epochFirst: epochFirst() },
      isConnector: isConnector(source.engine),
      ...(hintLifeMs === undefined ? {} : { hintLifeMs }),
    });
    this.#restore(relay, source);
    const stream = new EventStream(source, { ...this.#deps, polls: this.#polls, relay });
    return { source, heldShare, stream };
  }

  #end({ stream, heldShare }: Subscription): void {
    const ending = stream.stop().finally(() => {
      heldShare.settle(0);
      this.#ending.delete(ending);
    });
    this.#ending.add(ending);
  }

  #restore(relay: HolderRelay, source: EventSource): void {
    restoreRelay(relay, this.#deps.residency, source);
  }
}

/** Drops the holders that are not among the sources, with all their blocks. */
export function forgetOthers(residency: Residency, sources: readonly EventSource[]): void {
  const wanted = new Set(sources.map(({ holder }) => holderName(holder)));
  for (const holder of residency.holders()) {
    if (!wanted.has(holderName(holder))) residency.forget(holder);
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
