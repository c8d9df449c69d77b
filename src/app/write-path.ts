/**
 * The write path put together: engine sockets straight into the index, or through the fleet's log,
 * with the engines' side in this process or in relays of their own.
 */
import type { Config } from "../config/schema.ts";
import { type EndpointId, type Holder, holderName } from "../core/ids.ts";
import { Applier, type ApplierDeps } from "../events/applier.ts";
import { type EventSource, forgetOthers, Ingest } from "../events/ingest.ts";
import type { KeyedBatch } from "../events/keyed-batch.ts";
import { ASK_MS } from "../events/nats-asks.ts";
import { NatsLog } from "../events/nats-log.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { LogStrangers } from "./log-strangers.ts";
import type { EventSide } from "./write-side.ts";

export interface WritePath {
  readonly ingest: EventSide;
  /** For people: how the events come, and whether that is degraded. */
  readonly detail: () => string;
  readonly stop: () => Promise<void>;
}

export type WritePathDeps = ApplierDeps & { readonly hasher: BlockHasher };

export function startWritePath(config: Config, deps: WritePathDeps): WritePath {
  if (config.events.transport === "nats" && config.events.relay === "separate") {
    return startReadingWritePath(config, deps);
  }
  const applier = new Applier(deps);
  if (config.events.transport === "direct") {
    const ready = Promise.resolve();
    const ingest = new Ingest({ ...deps, ...hintOptions(config), sink: applier, ready });
    return { ingest, detail: (): string => "direct from the engines", stop: () => ingest.stop() };
  }
  const onTruncated: LogReader["onTruncated"] = (endpoint) => applier.truncated(endpoint);
  const onBatch = (batch: KeyedBatch): void => void applier.accept(batch);
  return startRelayedWritePath(config, deps, { onBatch, onTruncated, tailOf: null });
}

/** The log alone: relays in processes of their own speak with the engines. */
function startReadingWritePath(config: Config, deps: WritePathDeps): WritePath {
  const { residency, clock } = deps;
  const heardMs = new Map<string, number>();
  const askedMs = new Map<string, number>();
  const onFenced = (holder: Holder, epoch: number): void => {
    const nowMs = clock.nowMs();
    const name = holderName(holder);
    if (nowMs < (askedMs.get(name) ?? 0) + ASK_MS) return;
    askedMs.set(name, nowMs);
    log.ask({ how: "overtake", holder, epoch });
  };
  const applier = new Applier({ ...deps, onFenced });
  const strangers = new LogStrangers();
  const log = new NatsLog({
    ...deps,
    ...logOptions(config),
    onBatch: (batch): void => {
      if (!strangers.admits(batch.holder)) {
        deps.meter.count("kvatlas_events_refused_total", { reason: "unknown-endpoint" });
        return;
      }
      applier.accept(batch);
      heardMs.set(holderName(batch.holder), clock.nowMs());
    },
    onTruncated: (endpoint): void => applier.truncated(endpoint),
    onRestored: (): void => {},
    onAsk: null,
    tailOf: null,
  });
  let sources: readonly EventSource[] | null = null;
  let reachableMs = 0;
  const forget = (): void => {
    // While the fleet is not known, nobody is known to have left it.
    if (sources === null) return;
    forgetOthers(residency, sources);
    const wanted = new Set(sources.map(({ holder }) => holderName(holder)));
    for (const times of [heardMs, askedMs]) {
      for (const name of times.keys()) if (!wanted.has(name)) times.delete(name);
    }
  };
  // The log may tell of endpoints that have left the fleet since.
  void log.caughtUp.then(forget);
  const ingest: EventSide = {
    reconcile: (current): void => {
      sources = current;
      strangers.reconcile(current.map(({ holder }) => holder));
      forget();
    },
    // What the engines' sockets say only their relays know.
    factsOf: () => null,
    heardMsOf: (holder) => {
      // A log that is away says nothing of the engines' silence.
      if (!log.isConnected) reachableMs = clock.nowMs();
      const heard = heardMs.get(holderName(holder));
      return heard === undefined ? null : Math.max(heard, reachableMs);
    },
    resync: (holder) => {
      const epoch = residency.cursorOf(holder)?.epoch;
      if (epoch === undefined || !log.isConnected) return false;
      log.ask({ how: "resync", holder, epoch });
      return true;
    },
  };
  return { ingest, detail: () => logDetail(log), stop: () => log.stop() };
}

/** What reads back from the log: a router all of it, a relay the tail of its own endpoints. */
export interface LogReader {
  readonly onBatch: (batch: KeyedBatch) => void;
  readonly onTruncated: (endpoint: EndpointId | null) => void;
  readonly tailOf: (() => readonly EndpointId[]) | null;
}

/** Engines -> log, and what comes back to the reader; starts from what the log has of earlier. */
export function startRelayedWritePath(
  config: Config,
  deps: WritePathDeps,
  reader: LogReader,
): WritePath {
  let isTail = true;
  const log = new NatsLog({
    ...deps,
    ...logOptions(config),
    ...reader,
    onBatch: (batch): void => {
      if (!ingest.follows(batch.holder)) {
        const reason = "unknown-endpoint";
        deps.meter.count("kvatlas_events_refused_total", { reason });
        return;
      }
      // What an earlier process published is news to the relays; what they publish is not.
      if (isTail) ingest.adopt(batch);
      reader.onBatch(batch);
    },
    onAsk: (ask): void => ingest.asked(ask),
    onRestored: (): void => {
      if (isTail) ingest.restore();
      if (reader.tailOf === null) ingest.forgetStrangers();
    },
  });
  const ready = log.caughtUp.then((): void => {
    isTail = false;
    // A relay has no index: what it was given of the snapshot is in its handle maps.
    if (reader.tailOf !== null) forgetOthers(deps.residency, []);
    else ingest.forgetStrangers();
  });
  const ingest = new Ingest({
    ...deps,
    ...hintOptions(config),
    sink: log,
    ready,
    // Later than that of any earlier relay, so that routers do not fence it off where the log has
    // lost what those said; unlike that of any other, also where the clock was set back.
    epochFirst: (): number => Math.floor(deps.clock.wallMs()),
  });
  return {
    ingest,
    detail: () => logDetail(log),
    stop: async (): Promise<void> => {
      await log.stop();
      await ingest.stop();
    },
  };
}

/**
 * Keys of another model or seed mean nothing here, and the messages do not tell: each such space has
 * subjects and snapshots of its own in the stream.
 */
function logOptions({
  events,
  pool,
  model,
  index,
}: Config): Pick<ConstructorParameters<typeof NatsLog>[0], "config" | "pool" | "keySeed"> {
  const { keySeed } = index;
  return { config: events.nats, pool: `${pool}:${model}:${keySeed}`, keySeed };
}

function hintOptions({ events }: Config): { readonly hintLifeMs: number } {
  return { hintLifeMs: 1000 * events.hintLifeSeconds };
}

function logDetail({ isConnected, bootstrap }: NatsLog): string {
  const state = isConnected ? "NATS connected" : "DEGRADED: NATS is not connected";
  if (bootstrap === null) return `${state}; reading the log's tail`;
  const { source, rows, seconds } = bootstrap;
  const from = source === "snapshot" ? `a snapshot of ${rows} rows and the log` : "the log";
  return `${state}; caught up from ${from} in ${seconds.toFixed(3)} s`;
}
