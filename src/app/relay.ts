/**
 * The relay: engines' KV events -> NATS, for routers that read them there. No index, no Envoy edge.
 *
 * At its start it takes what the log and the newest snapshot have of its endpoints into its handle
 * maps and cursors, and asks the engines' replay sockets for what came since.
 */
import { endpointDefaults, parseEndpoints } from "../config/endpoints.ts";
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/clock.ts";
import { KvError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { EventSource } from "../events/ingest.ts";
import { type EndpointsParse, FileEndpoints } from "../fleet/file-endpoints.ts";
import type { IndexWriter } from "../indexer/block-index.ts";
import { entriesIn } from "../indexer/config.ts";
import { Residency } from "../indexer/residency.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { HttpAdmin, type ReadyCheck } from "../observe/http-admin.ts";
import { type MetricsText, PromMeter } from "../observe/prom-meter.ts";
import { eventSources } from "./event-sources.ts";
import { startRelayedWritePath, type WritePath } from "./write-path.ts";

export interface RelayDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly version: string;
}

export interface RunningRelay {
  readonly adminAddress: string;
  stop(): Promise<void>;
}

const NO_INDEX: IndexWriter = {
  store: () => 0,
  remove: () => {},
  storeMany: () => 0,
  repeated: [],
  removeMany: () => {},
};

/** Starts everything; throws KvError where the configuration or a port forbids it. */
export async function startRelay(config: Config, deps: RelayDeps): Promise<RunningRelay> {
  const { clock, log } = deps;
  if (config.events.relay !== "separate") {
    const problem = `events.relay: ${config.events.relay}; a relay process needs "separate"`;
    throw new KvError("ERR_CONFIG_INVALID", problem);
  }
  const meter = new PromMeter();
  const ports = { clock, log, meter };
  meter.gauge("kvatlas_build_info", { version: deps.version, node: process.version }, 1);
  const hasher = await createBlockHasher(config.index.keySeed, log);
  const residency = new Residency({
    index: NO_INDEX,
    entriesMax: entriesIn(config.index.bytesMax),
  });

  let sources: readonly EventSource[] = [];
  let path: WritePath | null = null;
  const { pool } = config;
  // It reads no prompts.
  const defaults = { ...endpointDefaults(config), promptEngine: null };
  const file = config.fleet.endpointsFile;
  const endpoints = new FileEndpoints(
    {
      ...ports,
      parse: (text): EndpointsParse => parseEndpoints({ file, text }, defaults),
      onSpecs: (specs): void => {
        sources = eventSources(specs.filter((spec) => spec.pool === pool));
        path?.ingest.reconcile(sources);
      },
    },
    file,
  );
  await endpoints.start();
  path = startRelayedWritePath(
    config,
    { ...ports, residency, hasher },
    {
      onBatch: () => {},
      onTruncated: () => {},
      tailOf: () => [...new Set(sources.map(({ holder }) => holder.endpointId))],
    },
  );
  path.ingest.reconcile(sources);
  const { detail, stop: stopPath } = path;
  const stop = async (): Promise<void> => {
    await endpoints.stop();
    await stopPath();
  };
  const readyChecks = (): ReadyCheck[] => [
    { name: "fleet", isOk: true, detail: `${sources.length} ranks are listened to` },
    { name: "events", isOk: true, detail: detail() },
  ];
  const admin = new HttpAdmin({
    log,
    metrics: (): Promise<MetricsText> => meter.text(),
    readyChecks,
  });
  try {
    const adminAddress = await admin.start(config.observe.adminListen);
    log.info({ admin: adminAddress, ranks: sources.length }, "relaying");
    return {
      adminAddress,
      stop: async (): Promise<void> => {
        await admin.stop();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
