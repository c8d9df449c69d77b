/** The write path put together: engine sockets straight into the index, or through the fleet's log. */
import type { Config } from "../config/schema.ts";
import { Applier, type ApplierDeps } from "../events/applier.ts";
import { Ingest } from "../events/ingest.ts";
import type { KeyedBatch } from "../events/keyed-batch.ts";
import { NatsLog } from "../events/nats-log.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";

export interface WritePath {
  readonly ingest: Ingest;
  /** For people: how the events come, and whether that is degraded. */
  readonly detail: () => string;
  readonly stop: () => Promise<void>;
}

export type WritePathDeps = ApplierDeps & { readonly hasher: BlockHasher };

export function startWritePath(config: Config, deps: WritePathDeps): WritePath {
  const applier = new Applier(deps);
  if (config.events.transport === "direct") {
    const ingest = new Ingest({ ...deps, sink: applier, ready: Promise.resolve() });
    return { ingest, detail: (): string => "direct from the engines", stop: () => ingest.stop() };
  }
  return startLoggedWritePath(config, deps, applier);
}

function startLoggedWritePath(config: Config, deps: WritePathDeps, applier: Applier): WritePath {
  let isTail = true;
  const onBatch = (batch: KeyedBatch): void => {
    // What an earlier process published is news to the relays; what they publish is not.
    if (isTail) ingest.adopt(batch);
    applier.accept(batch);
  };
  const sink = new NatsLog({ ...deps, config: config.events.nats, pool: config.pool, onBatch });
  const ready = sink.caughtUp.then((): void => {
    isTail = false;
  });
  const ingest = new Ingest({ ...deps, sink, ready });
  return {
    ingest,
    detail: (): string => (sink.isConnected ? "NATS connected" : "DEGRADED: NATS is not connected"),
    stop: async (): Promise<void> => {
      await sink.stop();
      await ingest.stop();
    },
  };
}
