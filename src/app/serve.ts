/**
 * Wires the router together: write path, read path, fleet, Envoy edge, admin server.
 *
 * The one place that knows all modules. Everything started here is ended here, in reverse order.
 */
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Random } from "../core/random.ts";
import { EvictionBoard } from "../indexer/eviction-board.ts";
import { HttpAdmin, type ReadyCheck } from "../observe/http-admin.ts";
import { type MetricsText, PromMeter } from "../observe/prom-meter.ts";
import { startTokenizer } from "../prompt/tokenizer-choice.ts";
import { startQueryServer } from "../query/grpc-query-server.ts";
import { adminRoutes } from "./admin-routes.ts";
import { type Edge, startEdge } from "./edge.ts";
import { FollowedFleet } from "./followed-fleet.ts";
import { startGossip } from "./gossip.ts";
import { IngestThread } from "./ingest-thread.ts";
import { promptShare } from "./kv-picker.ts";
import { createReadSide } from "./read-side.ts";

export interface ServeDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly version: string;
}

export interface RunningRouter {
  /** "host:port" of each service, with the ports in use. */
  readonly extProcAddress: string;
  readonly healthAddress: string;
  readonly adminAddress: string;
  /** Null: not served. */
  readonly queryAddress: string | null;
  /** Refuses no request, but asks gateways to send no more; resolves when none is in flight. */
  drain(): Promise<void>;
  stop(): Promise<void>;
  /** Lets go of what would keep the process from exiting at once. */
  abandon(): Promise<void>;
}

/** Starts everything; throws KvError where the configuration or a port forbids it. */
export async function startRouter(config: Config, deps: ServeDeps): Promise<RunningRouter> {
  const { clock, random, log } = deps;
  const meter = new PromMeter();
  const ports = { clock, log, meter };
  meter.gauge("kvatlas_build_info", { version: deps.version, node: process.version }, 1);

  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const stopOne of stops.splice(0).reverse()) await stopOne();
  };
  try {
    const evictions = new EvictionBoard();
    const writeSide = await IngestThread.start(config, { ...ports, evictions });
    stops.push(() => writeSide.stop());
    const followed = new FollowedFleet(config, { ...ports, random, events: writeSide.events });
    stops.push(() => followed.stop());
    await followed.start();
    const tokenizing = await startTokenizer(promptShare(config), {
      engines: (): EndpointId[] => followed.readyByLoad(),
      ...{ clock, log },
    });
    stops.push(() => tokenizing.stop());
    const gossip = startGossip(config, { ...ports, random, fleet: followed.fleet });
    stops.push(() => gossip.stop());
    const readSide = await createReadSide(config, {
      ...{ ...ports, random, writeSide, evictions, followed, tokenizer: tokenizing.tokenizer },
      onDispatch: gossip.changed,
    });
    const { pods, parity, decider, queries, decisions } = readSide;
    pods.watch.start();
    stops.push(() => pods.watch.stop());
    parity.start();
    stops.push(() => parity.stop());
    let isDraining = false;
    let edge: Edge | null = null;
    const readyChecks = (): ReadyCheck[] => [
      ...followed.readyChecks(),
      { name: "index", isOk: true, detail: writeSide.detail().store },
      { name: "events", isOk: true, detail: writeSide.detail().events },
      { name: "prompt", isOk: true, detail: tokenizing.detail },
      edge?.readyCheck() ?? { name: "edge", isOk: false, detail: "not listening" },
      { name: "gossip", isOk: true, detail: gossip.detail() },
      { name: "draining", isOk: !isDraining, detail: isDraining ? "SIGTERM received" : "no" },
    ];
    const admin = new HttpAdmin({
      log,
      metrics: async (): Promise<MetricsText> => {
        followed.fleet.report(meter);
        await writeSide.report();
        await edge?.report();
        pods.watch.report();
        decider.report();
        return meter.text();
      },
      readyChecks,
      routes: adminRoutes({ pods: pods.report, queries, decisions }),
    });
    const adminAddress = await admin.start(config.observe.adminListen);
    stops.push(() => admin.stop());
    edge = await startEdge(config, { ...ports, ...readSide, random, followed });
    const { server } = edge;
    stops.push(() => server.stop());
    const { listen } = config.query;
    const query = listen === null ? null : await startQueryServer(listen, { ...ports, queries });
    stops.push(async () => query?.stop());
    const { address: extProcAddress, healthAddress } = server;
    const queryAddress = query?.address ?? null;
    const addresses = { ext_proc: extProcAddress, health: healthAddress, admin: adminAddress };
    log.info({ ...addresses, query: queryAddress }, "serving");
    return {
      extProcAddress,
      healthAddress,
      adminAddress,
      queryAddress,
      drain: async (): Promise<void> => {
        isDraining = true;
        query?.drain();
        await server.drain();
      },
      stop,
      abandon: () => writeSide.abandon(),
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
