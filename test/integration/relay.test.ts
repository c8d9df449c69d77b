/** Engines -> relay process -> NATS -> routers: restarts, lost logs, and replicas that start later. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startWritePath, type WritePath } from "../../src/app/write-path.ts";
import { configSchema } from "../../src/config/schema.ts";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import type { EventSource } from "../../src/events/ingest.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { type RunningNats, startNats } from "../../src/lab/process-nats.ts";
import { requireBinary } from "../harness/binaries.ts";
import { freePort } from "../harness/free-port.ts";
import { MemoryIndex } from "../harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../harness/recording-meter.ts";
import { RelayProcess } from "../harness/relay-process.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const nats = await requireBinary("nats-server");
const MODEL = "lab-8b";
/** Pool, model and key seed: what is told apart in the stream. */
const SPACE = "default%3Alab-8b%3A0";
const WAIT_MS = 15_000;
const stops: (() => unknown)[] = [];

interface Router {
  readonly residency: Residency;
  readonly meter: RecordingMeter;
  readonly path: WritePath;
}

let folder: string;
let port: number;
let server: RunningNats;
let engines: LabEngine[];
let relay: RelayProcess;

async function startServer(storeFolder: string): Promise<void> {
  server = await startNats({
    ...{ binary: nats.path, clock: nodeClock, port, storeFolder: join(folder, storeFolder) },
  });
}

const natsConfig = (more: object = {}): object => ({
  transport: "nats",
  relay: "separate",
  nats: { servers: [`127.0.0.1:${port}`], snapshotSeconds: 0.2, ...more },
});

const holderOf = (engine: LabEngine): Holder => ({
  ...{ endpointId: endpointId(engine.address), rank: 0 },
});

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "kvatlas-relay-"));
  port = await freePort();
  stops.push(() => rmSync(folder, { recursive: true, force: true }));
  await startServer("nats");
  stops.push(() => server.stop());
  engines = [];
  for (const hashSeed of ["one", "two"]) {
    const options = { timeScale: 0, gpuBlocks: 64, replayPort: 0, hashSeed };
    const engine = await startLabEngine(options, { clock: nodeClock });
    stops.push(() => engine.stop());
    engines.push(engine);
  }
  const endpoints = engines.map(({ address, kvEventsAddress, replayAddress }, position) => ({
    name: `pod-${position}`,
    address,
    kvEvents: { address: kvEventsAddress, replay: replayAddress ?? "" },
  }));
  relay = await RelayProcess.start({ folder, endpoints, config: { events: natsConfig() } });
  stops.push(() => relay.stop());
});
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function startRouter(
  residency = new Residency({ index: new MemoryIndex(), entriesMax: 100_000 }),
  more: object = {},
): Promise<Router> {
  const meter = recordingMeter();
  const config = configSchema.parse({ model: MODEL, ...more, events: natsConfig() });
  const hasher = await createBlockHasher(config.index.keySeed);
  const ports = { clock: nodeClock, log: silentLog, meter };
  const path = startWritePath(config, { ...ports, residency, hasher });
  path.ingest.reconcile(
    engines.map(
      (engine): EventSource => ({
        ...{ holder: holderOf(engine), model: MODEL, address: "", topic: "" },
        replayAddress: null,
      }),
    ),
  );
  stops.push(() => path.stop());
  return { residency, meter, path };
}

async function complete(from: number, to: number): Promise<void> {
  for (let seed = from; seed <= to; seed += 1) {
    const { address = "" } = engines[seed % engines.length] ?? {};
    const answer = await fetch(`http://${address}/v1/completions`, {
      method: "POST",
      body: JSON.stringify({ model: MODEL, prompt: promptOf(seed, 64), max_tokens: 1 }),
    });
    expect(answer.status).toBe(200);
    await answer.arrayBuffer();
  }
}

/** Every holder's place, and every (handle, key, copies) of it. */
function contentsOf({ residency }: Router): string[] {
  return engines.flatMap((engine) => {
    const holder = holderOf(engine);
    const { state, reason, epoch, seq } = residency.cursorOf(holder) ?? {};
    const rows = [...residency.records(holder)].map(
      ([handle, { key, copies }]) => `${engine.address} ${handle} ${key} ${copies.join("/")}`,
    );
    return [`${engine.address} ${state} ${reason} ${epoch} ${seq}`, ...rows.sort()];
  });
}

/** The router has all that the engines hold, and nothing else. */
async function equalsTruth({ residency }: Router): Promise<void> {
  for (const engine of engines) {
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

function expectExact({ residency }: Router): void {
  for (const engine of engines) {
    expect(residency.cursorOf(holderOf(engine))).toMatchObject({ state: "EXACT", reason: null });
  }
}

/** Contents may be equal before the last message of the log is read, which tells nothing of them. */
const caughtUp = ({ path }: Router): Promise<void> =>
  waitUntil("caught up", () => path.detail().includes("caught up"), WAIT_MS);

const snapshots = ({ meter }: Router, operation: string, outcome: string): number =>
  meter.total("kvatlas_snapshots_total", { operation, outcome });

async function snapshotWritten(router: Router): Promise<void> {
  const before = snapshots(router, "write", "written");
  const isWritten = (): boolean => snapshots(router, "write", "written") > before;
  await waitUntil("a snapshot is written", isWritten, WAIT_MS);
}

async function streams(): Promise<Awaited<ReturnType<typeof jetstreamManager>>> {
  const connection = await connect({ servers: [`127.0.0.1:${port}`] });
  stops.push(() => connection.close());
  return jetstreamManager(connection);
}

describe.skipIf(nats.isMissing)(`relay and routers${nats.note}`, { timeout: 60_000 }, () => {
  it("a relay that was killed goes on: routers stay EXACT and equal", async () => {
    const [first, second] = [await startRouter(), await startRouter()];
    await complete(1, 20);
    await equalsTruth(first);
    const epochs = engines.map((each) => first.residency.cursorOf(holderOf(each))?.epoch);
    await relay.killHard();
    await complete(21, 40);
    await relay.restart();
    await complete(41, 60);
    await Promise.all([equalsTruth(first), equalsTruth(second)]);
    expectExact(first);
    expect(contentsOf(second)).toEqual(contentsOf(first));
    expect(engines.map((each) => first.residency.cursorOf(holderOf(each))?.epoch)).toEqual(epochs);
  });

  it("a server that was killed comes back empty: nothing is lost", async () => {
    const router = await startRouter();
    await complete(1, 20);
    await equalsTruth(router);
    await server.kill();
    await complete(21, 30);
    await startServer("empty");
    await complete(31, 40);
    await equalsTruth(router);
    expectExact(router);
  });

  it("relay killed and log empty: the engines' replay makes all known again", async () => {
    const router = await startRouter();
    await complete(1, 20);
    await equalsTruth(router);
    await relay.killHard();
    await server.kill();
    await startServer("empty");
    await complete(21, 40);
    await relay.restart();
    await equalsTruth(router);
    expectExact(router);
  });

  it("a stream that is deleted is made anew, and nothing is lost", async () => {
    const router = await startRouter();
    await complete(1, 20);
    await equalsTruth(router);
    await (await streams()).streams.delete("KVATLAS");
    await complete(21, 40);
    await equalsTruth(router);
    expectExact(router);
  });

  it.each(["gap", "late-subscription"])(
    "a %s that only the log has is told again",
    async (what) => {
      const router = await startRouter();
      await complete(1, 20);
      await equalsTruth(router);
      const epochs = engines.map((each) => router.residency.cursorOf(holderOf(each))?.epoch ?? 0);
      await router.path.stop();
      const manager = await streams();
      // Nobody knows any more what these said: no router, no snapshot, and the relay has passed it on.
      await manager.streams.purge("KVATLAS_SNAPSHOTS");
      if (what === "gap") await manager.streams.deleteMessage("KVATLAS", 5);
      else await manager.streams.purge("KVATLAS", { seq: 9 });
      const later = await startRouter();
      await complete(21, 24);
      await equalsTruth(later);
      expectExact(later);
      const holders = engines.map(holderOf);
      const isTold = (at: number): boolean =>
        (later.residency.cursorOf(holders[at] as Holder)?.epoch ?? 0) > (epochs[at] ?? 0);
      expect(holders.some((_, at) => isTold(at))).toBe(true);
      expect(later.meter.total("kvatlas_events_gaps_total") > 0).toBe(what === "gap");
    },
  );

  it("a replica that starts later has a snapshot and the tail, and says how long it took", async () => {
    const first = await startRouter();
    await complete(1, 30);
    await equalsTruth(first);
    await snapshotWritten(first);
    const manager = await streams();
    const { state } = await manager.streams.info("KVATLAS");
    // Retention has reached everything that the snapshot covers.
    await manager.streams.purge("KVATLAS", { seq: state.last_seq + 1 });
    await complete(31, 34);
    const later = await startRouter();
    await equalsTruth(later);
    await caughtUp(later);
    expectExact(later);
    expect(contentsOf(later)).toEqual(contentsOf(first));
    expect(later.path.detail()).toMatch(
      /^NATS connected; caught up from a snapshot of \d+ rows and the log in \d+\.\d{3} s$/,
    );
    expect(snapshots(later, "load", "restored")).toBe(1);
  });

  it("a router that was away longer than the log retains recovers by snapshot", async () => {
    const [first, away] = [await startRouter(), await startRouter()];
    await complete(1, 20);
    await equalsTruth(away);
    await away.path.stop();
    await complete(21, 60);
    await equalsTruth(first);
    await snapshotWritten(first);
    const manager = await streams();
    const { state } = await manager.streams.info("KVATLAS");
    await manager.streams.purge("KVATLAS", { seq: state.last_seq });
    const back = await startRouter(away.residency);
    await equalsTruth(back);
    await caughtUp(back);
    expectExact(back);
    expect(contentsOf(back)).toEqual(contentsOf(first));
  });

  it("a relay that lost the log's beginning takes its handles from the snapshot", async () => {
    const router = await startRouter();
    await complete(1, 20);
    await equalsTruth(router);
    await snapshotWritten(router);
    await relay.killHard();
    const manager = await streams();
    await manager.streams.purge("KVATLAS");
    await relay.restart();
    // Goes on under blocks that only the snapshot tells of.
    await complete(19, 20);
    await complete(41, 44);
    await equalsTruth(router);
    expectExact(router);
  });

  it("reads nothing of another key seed, and refuses a snapshot with parts missing", async () => {
    const first = await startRouter();
    await complete(1, 10);
    await equalsTruth(first);
    await snapshotWritten(first);
    const other = await startRouter(undefined, { index: { keySeed: 7 } });
    await waitUntil(
      "it has read its log",
      () => other.path.detail().includes("caught up"),
      WAIT_MS,
    );
    expect(other.residency.holders()).toEqual([]);
    await other.path.stop();
    await relay.stop();
    await first.path.stop();
    const manager = await streams();
    const last = { last_by_subj: `kvatlas.snapshot.${SPACE}.head` };
    const head = await manager.streams.getMessage("KVATLAS_SNAPSHOTS", last);
    const filter = `kvatlas.snapshot.${SPACE}.${head?.json<{ id: string }>().id}.*`;
    await manager.streams.purge("KVATLAS_SNAPSHOTS", { filter, keep: 1 });
    const later = await startRouter();
    await waitUntil("incomplete", () => snapshots(later, "load", "incomplete") === 1, WAIT_MS);
    // The log has all of it.
    await equalsTruth(later);
  });

  it("garbage and repeats in the streams change nothing", async () => {
    const router = await startRouter();
    await complete(1, 10);
    await equalsTruth(router);
    const manager = await streams();
    const client = manager.jetstream();
    const subject = `kvatlas.kv.${SPACE}.${engines[0]?.address.replaceAll(".", "%2E").replace(":", "%3A")}`;
    const first = await manager.streams.getMessage("KVATLAS", { seq: 1 });
    await client.publish(subject, new Uint8Array([0x93, 1, 2]));
    await client.publish(first?.subject ?? "", first?.data ?? new Uint8Array());
    await client.publish(`kvatlas.snapshot.${SPACE}.head`, "{}");
    await complete(11, 20);
    const later = await startRouter();
    await Promise.all([equalsTruth(router), equalsTruth(later)]);
    expectExact(router);
    expect(contentsOf(later)).toEqual(contentsOf(router));
    const reason = "malformed-log-message";
    expect(router.meter.total("kvatlas_events_refused_total", { reason })).toBe(1);
  });
});
