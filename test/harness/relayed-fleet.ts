/**
 * Lab engines -> relay process -> nats-server -> routers' write paths, and the engines' own caches as the
 * truth that every router is held against.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { startWritePath, type WritePath } from "../../src/app/write-path.ts";
import { configSchema } from "../../src/config/schema.ts";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import type { EventSource } from "../../src/events/ingest.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { freePort } from "./free-port.ts";
import { MemoryIndex } from "./memory-index.ts";
import { NatsServer } from "./nats-server.ts";
import { type RecordingMeter, recordingMeter } from "./recording-meter.ts";
import { RelayProcess } from "./relay-process.ts";
import { promptOf } from "./stack.ts";
import { TcpProxy } from "./tcp-proxy.ts";
import { waitUntil } from "./wait-until.ts";

const MODEL = "lab-8b";
const WAIT_MS = 30_000;
/** Pool, model and key seed: what is told apart in the stream. */
export const SPACE = "default%3Alab-8b%3A0";

export interface FleetRouter {
  readonly residency: Residency;
  readonly meter: RecordingMeter;
  readonly path: WritePath;
}

interface RouterPlace {
  readonly residency?: Residency;
  /** Parts of the configuration beside `events`. */
  readonly config?: object;
  /** Where it reaches the server; default: directly. */
  readonly address?: string;
  /** False: nobody has told it of the endpoints yet, see `learnFleet`. */
  readonly isFleetKnown?: boolean;
}

export const holderOf = (engine: LabEngine): Holder => ({
  ...{ endpointId: endpointId(engine.address), rank: 0 },
});

export class RelayedFleet {
  readonly #folder = mkdtempSync(join(tmpdir(), "kvatlas-relay-"));
  /** Ended with the fleet, the latest first. */
  readonly #stops: (() => unknown)[] = [];
  readonly engines: LabEngine[] = [];
  readonly server: NatsServer;
  /** The relay's way to the server. */
  readonly relayWay: TcpProxy;
  #relay: RelayProcess | null = null;

  static async start(binary: string): Promise<RelayedFleet> {
    const server = new NatsServer(binary, await freePort());
    const fleet = new RelayedFleet(server, await TcpProxy.start(server.address));
    await server.start();
    for (const hashSeed of ["one", "two"]) await fleet.#addEngine(hashSeed);
    const endpoints = fleet.engines.map(({ address, kvEventsAddress, replayAddress }, at) => ({
      name: `pod-${at}`,
      address,
      kvEvents: { address: kvEventsAddress, replay: replayAddress ?? "" },
    }));
    const config = { events: natsConfig(fleet.relayWay.address) };
    const relay = await RelayProcess.start({ folder: fleet.#folder, endpoints, config });
    fleet.#relay = relay;
    fleet.#stops.push(() => relay.stop());
    return fleet;
  }

  private constructor(server: NatsServer, relayWay: TcpProxy) {
    this.server = server;
    this.relayWay = relayWay;
    this.#stops.push(
      () => rmSync(this.#folder, { recursive: true, force: true }),
      () => server.stop(),
      () => relayWay.stop(),
    );
  }

  get relay(): RelayProcess {
    if (this.#relay === null) throw new Error("the relay is not started");
    return this.#relay;
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) await stop();
  }

  async startRouter(place: RouterPlace = {}): Promise<FleetRouter> {
    const residency =
      place.residency ?? new Residency({ index: new MemoryIndex(), entriesMax: 100_000 });
    const meter = recordingMeter();
    const events = natsConfig(place.address ?? this.server.address);
    const config = configSchema.parse({ model: MODEL, ...place.config, events });
    const hasher = await createBlockHasher(config.index.keySeed);
    const ports = { clock: nodeClock, log: silentLog, meter };
    const path = startWritePath(config, { ...ports, residency, hasher });
    this.#stops.push(() => path.stop());
    const router = { residency, meter, path };
    if (place.isFleetKnown !== false) this.learnFleet(router);
    return router;
  }

  /** As when the endpoints file is read. */
  learnFleet({ path }: FleetRouter): void {
    const source = (engine: LabEngine): EventSource => ({
      ...{ holder: holderOf(engine), model: MODEL, address: "", topic: "" },
      replayAddress: null,
    });
    path.ingest.reconcile(this.engines.map(source));
  }

  /** A way of its own to the server, that can be interrupted. */
  async newWay(): Promise<TcpProxy> {
    const way = await TcpProxy.start(this.server.address);
    this.#stops.push(() => way.stop());
    return way;
  }

  /** Prompts number `from` to `to`, of 4 blocks each, at the engines in turn. */
  async complete(from: number, to: number): Promise<void> {
    for (let seed = from; seed <= to; seed += 1) {
      const { address = "" } = this.engines[seed % this.engines.length] ?? {};
      const answer = await fetch(`http://${address}/v1/completions`, {
        method: "POST",
        body: JSON.stringify({ model: MODEL, prompt: promptOf(seed, 64), max_tokens: 1 }),
      });
      expect(answer.status).toBe(200);
      await answer.arrayBuffer();
    }
  }

  /** Every holder's place, and every (handle, key, copies) of it. */
  contentsOf({ residency }: FleetRouter): string[] {
    return this.engines.flatMap((engine) => {
      const holder = holderOf(engine);
      const { state, reason, epoch, seq } = residency.cursorOf(holder) ?? {};
      const rows = [...residency.records(holder)].map(
        ([handle, { key, copies }]) => `${engine.address} ${handle} ${key} ${copies.join("/")}`,
      );
      return [`${engine.address} ${state} ${reason} ${epoch} ${seq}`, ...rows.sort()];
    });
  }

  /** The router has all that the engines hold, and nothing else. */
  async equalsTruth({ residency }: FleetRouter): Promise<void> {
    for (const engine of this.engines) {
      await waitUntil(
        "the index equals the engine's cache",
        () => {
          const holder = holderOf(engine);
          const known = [...residency.records(holder)].map(([handle]) => handle.toString(16));
          const truth = engine.cachedBlocks().map(({ engineHash }) => engineHash.toString(16));
          const isCurrent = residency.cursorOf(holder)?.seq === engine.publishedSeq();
          return isCurrent && known.sort().join() === [...new Set(truth)].sort().join();
        },
        WAIT_MS,
      );
    }
  }

  /** The same, and every holder says so. */
  async isExact(router: FleetRouter): Promise<void> {
    for (const engine of this.engines) {
      const { residency } = router;
      const isExact = (): boolean => residency.cursorOf(holderOf(engine))?.state === "EXACT";
      await waitUntil("the holder is EXACT", isExact, WAIT_MS);
    }
    await this.equalsTruth(router);
  }

  /** Both routers have, and say, the same. */
  async sameContents(one: FleetRouter, other: FleetRouter): Promise<void> {
    const isSame = (): boolean => this.contentsOf(one).join() === this.contentsOf(other).join();
    await waitUntil("both routers have the same", isSame, WAIT_MS);
  }

  expectExact({ residency }: FleetRouter): void {
    for (const engine of this.engines) {
      expect(residency.cursorOf(holderOf(engine))).toMatchObject({ state: "EXACT", reason: null });
    }
  }

  async #addEngine(hashSeed: string): Promise<void> {
    const options = { timeScale: 0, gpuBlocks: 64, replayPort: 0, hashSeed };
    const engine = await startLabEngine(options, { clock: nodeClock });
    this.#stops.push(() => engine.stop());
    this.engines.push(engine);
  }
}

function natsConfig(server: string): object {
  return {
    transport: "nats",
    relay: "separate",
    nats: { servers: [server], snapshotSeconds: 0.2 },
  };
}
