/**
 * A connector's stores, which no removal follows: engine -> relay process -> NATS -> routers. Their life
 * is bounded for every router alike, also for one that has them from a snapshot, and after the relay that
 * knew their age is gone.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { XPublisher } from "zeromq";
import { startWritePath, type WritePath } from "../../src/app/write-path.ts";
import { configSchema } from "../../src/config/schema.ts";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { requireBinary } from "../harness/binaries.ts";
import { msgpackPayload } from "../harness/event-samples.ts";
import { freePort } from "../harness/free-port.ts";
import { MemoryIndex } from "../harness/memory-index.ts";
import { NatsServer } from "../harness/nats-server.ts";
import { type RecordingMeter, recordingMeter } from "../harness/recording-meter.ts";
import { RelayProcess } from "../harness/relay-process.ts";
import { waitUntil } from "../harness/wait-until.ts";

const nats = await requireBinary("nats-server");
const WAIT_MS = 30_000;
const MODEL = "lab-8b";
/** Of the engine's clock; no hint ends by a real one within the test. */
const LIFE_SECONDS = 3600;
const CHUNK = 256;
const BLOCK = 16;
const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

interface Router {
  readonly residency: Residency;
  readonly meter: RecordingMeter;
  readonly path: WritePath;
}

/** An engine with LMCache: what it says, and when by its own clock. */
class Engine {
  readonly #socket = new XPublisher({ linger: 0 });
  #seq = 0;

  static async start(): Promise<Engine> {
    const engine = new Engine();
    await engine.#socket.bind("tcp://127.0.0.1:*");
    stops.push(() => engine.#socket.close());
    return engine;
  }

  get address(): string {
    return this.#socket.lastEndpoint ?? "";
  }

  /** Until somebody subscribes: what is said before is lost. */
  async isHeard(): Promise<void> {
    for (;;) if ((await this.#socket.receive())[0]?.[0] === 1) return;
  }

  async say(seconds: number, ...events: object[]): Promise<void> {
    const seq = Buffer.alloc(8);
    seq.writeBigUInt64BE(BigInt(this.#seq));
    this.#seq += 1;
    await this.#socket.send([Buffer.alloc(0), seq, msgpackPayload([seconds, events, 0])]);
  }
}

function stored(hash: number, blockSize: number, medium: string): object {
  const tokens = Array.from({ length: blockSize }, (_, at) => 1000 * hash + at);
  return {
    ...{ type: "BlockStored", block_hashes: [hash], parent_block_hash: null, token_ids: tokens },
    ...{ block_size: blockSize, lora_id: null, medium, lora_name: null },
  };
}

const configOf = (server: NatsServer): Readonly<Record<"events", object>> => ({
  events: {
    ...{ transport: "nats", relay: "separate", hintLifeSeconds: LIFE_SECONDS },
    nats: { servers: [server.address], snapshotSeconds: 0.2 },
  },
});

async function startRouter(server: NatsServer): Promise<Router> {
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1000 });
  const meter = recordingMeter();
  const config = configSchema.parse({ model: MODEL, ...configOf(server) });
  const hasher = await createBlockHasher(config.index.keySeed);
  const ports = { clock: nodeClock, log: silentLog, meter };
  const path = startWritePath(config, { ...ports, residency, hasher });
  stops.push(() => path.stop());
  path.ingest.reconcile([{ holder, model: MODEL, address: "", topic: "", replayAddress: null }]);
  return { residency, meter, path };
}

/** Hashes and in which tier, gpu before cpu. */
function heldBy({ residency }: Router): string[] {
  return [...residency.records(holder)]
    .map(([hash, { copies }]) => `${hash} ${copies[0] ? "gpu" : "cpu"}`)
    .sort();
}

async function eachHolds(routers: readonly Router[], ...expected: string[]): Promise<void> {
  for (const router of routers) {
    const isSo = (): boolean => heldBy(router).join() === expected.join();
    await waitUntil(`it holds ${expected.join()}`, isSo, WAIT_MS);
  }
}

describe.skipIf(nats.isMissing)(`a connector's stores${nats.note}`, { timeout: 60_000 }, () => {
  it("end in every router alike, when their life is over or the relay starts anew", async () => {
    const folder = mkdtempSync(join(tmpdir(), "kvatlas-hints-"));
    stops.push(() => rmSync(folder, { recursive: true, force: true }));
    const server = new NatsServer(nats.path, await freePort());
    stops.push(() => server.stop());
    await server.start();
    const engine = await Engine.start();
    const kvEvents = { engine: "lmcache", address: engine.address };
    const endpoints = [{ name: "pod", address: holder.endpointId, kvEvents }];
    const heard = engine.isHeard();
    const relay = await RelayProcess.start({
      ...{ folder, endpoints, config: configOf(server) },
    });
    stops.push(() => relay.stop());
    await heard;
    const first = await startRouter(server);
    await engine.say(1000, stored(1, BLOCK, "GPU"), stored(901, CHUNK, "cpu"));
    await eachHolds([first], "1 gpu", "901 cpu");
    const place = { state: "DEGRADED", reason: "no-removals" };
    expect(first.residency.cursorOf(holder)).toMatchObject(place);

    // A second router has it from the snapshot alone: the log has lost what was said of it.
    const written = (): number =>
      first.meter.total("kvatlas_snapshots_total", { operation: "write", outcome: "written" });
    const before = written();
    await waitUntil("a snapshot is written", () => written() > before, WAIT_MS);
    const manager = await server.manager();
    await manager.streams.purge("KVATLAS");
    const second = await startRouter(server);
    const routers = [first, second];
    await eachHolds(routers, "1 gpu", "901 cpu");
    expect(second.residency.cursorOf(holder)).toMatchObject(place);
    const isBootstrapped = (): boolean => second.path.detail().includes("from a snapshot");
    await waitUntil("it says so", isBootstrapped, WAIT_MS);

    // It ends with the engine's first word behind its life; what was stored later stays.
    const later = 1000 + LIFE_SECONDS - 1;
    await engine.say(later, stored(902, CHUNK, "cpu"), stored(2, BLOCK, "GPU"));
    await eachHolds(routers, "1 gpu", "2 gpu", "901 cpu", "902 cpu");
    await engine.say(later + 2, stored(3, BLOCK, "GPU"));
    await eachHolds(routers, "1 gpu", "2 gpu", "3 gpu", "902 cpu");

    // Nobody knows its age any more.
    const again = engine.isHeard();
    await relay.killHard();
    await relay.restart();
    await again;
    await eachHolds(routers, "1 gpu", "2 gpu", "3 gpu");
    await engine.say(later + 3, stored(903, CHUNK, "cpu"));
    await eachHolds(routers, "1 gpu", "2 gpu", "3 gpu", "903 cpu");
    // Nothing shows that it still is the same engine, and that it is not is worse than hints.
    for (const { residency } of routers) {
      const unproven = { state: "DEGRADED", reason: "unproven-life" };
      expect(residency.cursorOf(holder)).toMatchObject(unproven);
    }
  });
});
