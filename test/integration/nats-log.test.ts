/** The fleet's event log on a real nats-server: order, restarts of either side, losses and limits. */
import { afterEach, describe, expect, it } from "vitest";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { Applier } from "../../src/events/applier.ts";
import { eventsConfigSchema } from "../../src/events/config.ts";
import type { KeyedBatch, KeyedEvent } from "../../src/events/keyed-batch.ts";
import { NatsLog } from "../../src/events/nats-log.ts";
import { PENDING_BATCHES_MAX } from "../../src/events/nats-publisher.ts";
import { eventSubject } from "../../src/events/nats-stream.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { startChild } from "../../src/lab/process-child.ts";
import { requireBinary } from "../harness/binaries.ts";
import { freePort } from "../harness/free-port.ts";
import { MemoryIndex } from "../harness/memory-index.ts";
import { NatsServer } from "../harness/nats-server.ts";
import { type RecordingMeter, recordingMeter } from "../harness/recording-meter.ts";
import { waitUntil } from "../harness/wait-until.ts";

const nats = await requireBinary("nats-server");
const WAIT_MS = 30_000;
const STREAM = "KVATLAS";
const NO_RELAY = { onAsk: null, tailOf: null } as const;
const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("[fe80::1]:8000"), rank: 1 };

/** Ended after each test, the latest first. */
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** Started now, ended after the test. */
async function startServer(): Promise<NatsServer> {
  const server = await newServer();
  await server.start();
  return server;
}

async function newServer(): Promise<NatsServer> {
  const server = new NatsServer(nats.path, await freePort());
  stops.push(() => server.stop());
  return server;
}

interface Router {
  readonly log: NatsLog;
  readonly residency: Residency;
  readonly meter: RecordingMeter;
  /** Sequence numbers in the order in which the log handed them over. */
  readonly seqs: number[];
  readonly isCaughtUp: () => boolean;
}

interface RouterOptions {
  readonly residency?: Residency;
  readonly pool?: string;
}

function newRouter(address: string, options: RouterOptions = {}): Router {
  const residency =
    options.residency ?? new Residency({ index: new MemoryIndex(), entriesMax: 1_000_000 });
  const meter = recordingMeter();
  const parts = { residency, clock: nodeClock, log: silentLog, meter };
  const applier = new Applier(parts);
  const seqs: number[] = [];
  const onBatch = (batch: KeyedBatch): void => {
    seqs.push(batch.seq);
    applier.accept(batch);
  };
  const config = eventsConfigSchema.parse({
    nats: { servers: [address], snapshotSeconds: null },
  }).nats;
  const hooks = { onRestored: () => {}, onTruncated: () => applier.truncated(), ...NO_RELAY };
  const place = { config, pool: options.pool ?? "pool", keySeed: 0 };
  const log = new NatsLog({ ...parts, ...hooks, ...place, onBatch });
  stops.push(() => log.stop());
  let isCaughtUp = false;
  void log.caughtUp.then(() => {
    isCaughtUp = true;
  });
  return { log, residency, meter, seqs, isCaughtUp: () => isCaughtUp };
}

/** Batch n stores block n. */
function batchOf(seq: number, holder = podA, more: readonly KeyedEvent[] = []): KeyedBatch {
  const words = BigUint64Array.of(BigInt(seq));
  const stored: KeyedEvent = {
    ...{ type: "stored", tier: "gpu", handles: words, keys: words, blockSizeTokens: 16 },
  };
  return { holder, model: "m", epoch: 1, seq, engineMs: 0, events: [stored, ...more] };
}

function publish({ log }: Router, from: number, to: number, holder = podA): void {
  for (let seq = from; seq <= to; seq += 1) expect(log.accept(batchOf(seq, holder))).toBe(true);
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, offset) => from + offset);
const seqReached = ({ residency }: Router, seq: number, holder = podA): Promise<void> =>
  waitUntil(`sequence ${seq}`, () => residency.cursorOf(holder)?.seq === seq, WAIT_MS);
const blocksOf = ({ residency }: Router, holder = podA): number[] =>
  [...residency.records(holder)].map(([handle]) => Number(handle)).sort((a, b) => a - b);
const caughtUp = (router: Router): Promise<void> =>
  waitUntil("caught up", router.isCaughtUp, WAIT_MS);

describe.skipIf(nats.isMissing)(`event log on NATS${nats.note}`, { timeout: 60_000 }, () => {
  it("hands batches over in order, with cursors that say where it stands", async () => {
    const server = await startServer();
    const router = newRouter(server.address);
    await caughtUp(router);
    publish(router, 0, 99);
    publish(router, 0, 9, podB);
    await seqReached(router, 99);
    await seqReached(router, 9, podB);
    expect(blocksOf(router)).toEqual(range(0, 99));
    expect(blocksOf(router, podB)).toEqual(range(0, 9));
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT", seq: 99, model: "m" });
    const { state, created } = await (await server.manager()).streams.info(STREAM);
    await waitUntil("log cursor", () => router.residency.logCursor?.seq === state.last_seq);
    expect(router.residency.logCursor).toEqual({ stream: String(created), seq: state.last_seq });
    expect(router.meter.total("kvatlas_nats_published_total")).toBe(110);
  });

  it("goes on from a restored cursor without repeats, or from the start without one", async () => {
    const server = await startServer();
    const first = newRouter(server.address);
    publish(first, 0, 9);
    await seqReached(first, 9);
    await first.log.stop();

    const second = newRouter(server.address, { residency: first.residency });
    await caughtUp(second);
    publish(second, 10, 19);
    await seqReached(second, 19);
    expect(second.seqs).toEqual(range(10, 19));
    expect(second.meter.total("kvatlas_events_refused_total")).toBe(0);

    const fresh = newRouter(server.address);
    await caughtUp(fresh);
    expect(fresh.seqs).toEqual(range(0, 19));
    expect(fresh.residency.cursorOf(podA)).toMatchObject({ state: "EXACT", seq: 19 });
  });

  it("loses nothing that was accepted while the server was killed and away", async () => {
    const server = await startServer();
    const router = newRouter(server.address);
    publish(router, 0, 49);
    await seqReached(router, 49);
    publish(router, 50, 99);
    await server.kill();
    publish(router, 100, 149);
    await waitUntil("disconnected", () => !router.log.isConnected, WAIT_MS);
    publish(router, 150, 199);
    await server.start();
    await seqReached(router, 199);
    publish(router, 200, 209);
    await seqReached(router, 209);
    expect(blocksOf(router)).toEqual(range(0, 209));
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT" });
    expect(router.seqs.filter((seq, at) => router.seqs.indexOf(seq) === at)).toEqual(range(0, 209));
    expect(router.meter.total("kvatlas_events_gaps_total")).toBe(0);
    expect(router.log.isConnected).toBe(true);
  });

  it("reads on after the stream was deleted and made anew", async () => {
    const server = await startServer();
    const router = newRouter(server.address);
    publish(router, 0, 9);
    await seqReached(router, 9);
    const streamBefore = router.residency.logCursor?.stream;
    await (await server.manager()).streams.delete(STREAM);
    await waitUntil(
      "another stream",
      () => router.residency.logCursor?.stream !== streamBefore,
      WAIT_MS,
    );
    publish(router, 10, 19);
    await seqReached(router, 19);
    expect(blocksOf(router)).toEqual(range(0, 19));
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT" });
  });

  it("counts a message that kvatlas did not write, and applies the next", async () => {
    const server = await startServer();
    const router = newRouter(server.address);
    await caughtUp(router);
    const client = (await server.manager()).jetstream();
    const subject = eventSubject("pool", podA.endpointId);
    await client.publish(subject, new Uint8Array([0x93, 1, 2]));
    await client.publish(subject, new Uint8Array(0));
    publish(router, 0, 0);
    await seqReached(router, 0);
    const reason = "malformed-log-message";
    expect(router.meter.total("kvatlas_events_refused_total", { reason })).toBe(2);
    expect(router.residency.logCursor?.seq).toBe(3);
  });

  it("says what was lost when a batch does not fit into one message", async () => {
    const server = await startServer();
    const router = newRouter(server.address);
    publish(router, 0, 0);
    const handles = BigUint64Array.from({ length: 70_000 }, (_, at) => BigInt(at));
    router.log.accept(batchOf(1, podA, [{ type: "removed", tier: "gpu", handles }]));
    publish(router, 2, 2);
    await seqReached(router, 2);
    expect(blocksOf(router)).toEqual([0, 2]);
    expect(router.residency.cursorOf(podA)).toMatchObject({
      state: "DEGRADED",
      reason: "oversized",
    });
  });

  it("refuses and counts what is over the limit of waiting batches; the gap shows", async () => {
    const server = await newServer();
    const router = newRouter(server.address);
    publish(router, 0, PENDING_BATCHES_MAX - 1);
    expect(router.log.accept(batchOf(PENDING_BATCHES_MAX))).toBe(false);
    expect(router.log.accept(batchOf(0, podB))).toBe(false);
    const reason = "nats-queue-full";
    expect(router.meter.total("kvatlas_events_refused_total", { reason })).toBe(2);
    await server.start();
    await seqReached(router, PENDING_BATCHES_MAX - 1);
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT" });
    publish(router, PENDING_BATCHES_MAX + 1, PENDING_BATCHES_MAX + 1);
    await seqReached(router, PENDING_BATCHES_MAX + 1);
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "DEGRADED", reason: "gap" });
    expect(router.meter.total("kvatlas_events_missed_messages_total")).toBe(1);
  });

  it("keeps the pools that share a stream apart", async () => {
    const server = await startServer();
    const [red, blue] = [
      newRouter(server.address, { pool: "red.*" }),
      newRouter(server.address, { pool: "blue" }),
    ];
    await Promise.all([caughtUp(red), caughtUp(blue)]);
    publish(red, 0, 4);
    publish(blue, 0, 2, podB);
    await seqReached(red, 4);
    await seqReached(blue, 2, podB);
    publish(red, 5, 5);
    await seqReached(red, 5);
    expect(red.residency.cursorOf(podB)).toBeNull();
    expect(blue.residency.cursorOf(podA)).toBeNull();
    // The last message of the log is red's: blue must not wait for one of its own.
    const later = newRouter(server.address, { pool: "blue" });
    await caughtUp(later);
    expect(later.seqs).toEqual([0, 1, 2]);
  });

  describe("catching up", () => {
    it("is done at once on an empty log", async () => {
      const server = await startServer();
      await caughtUp(newRouter(server.address));
    });

    it("is done when the tail has been handed over", async () => {
      const server = await startServer();
      const first = newRouter(server.address);
      for (const from of range(0, 9)) {
        publish(first, from * 10, from * 10 + 9);
        await seqReached(first, from * 10 + 9);
      }
      const second = newRouter(server.address);
      await second.log.caughtUp;
      expect(second.seqs).toEqual(range(0, 99));
    });

    it.each(["all", "last", "first"])("is done when %s messages were deleted", async (which) => {
      const server = await startServer();
      const first = newRouter(server.address);
      for (const seq of range(0, 4)) {
        publish(first, seq, seq);
        await seqReached(first, seq);
      }
      await first.log.stop();
      const manager = await server.manager();
      if (which === "all") await manager.streams.purge(STREAM);
      if (which === "first") await manager.streams.purge(STREAM, { seq: 3 });
      if (which === "last")
        for (const seq of [4, 5]) await manager.streams.deleteMessage(STREAM, seq);

      const second = newRouter(server.address);
      await caughtUp(second);
      expect(second.seqs).toEqual(which === "all" ? [] : which === "first" ? [2, 3, 4] : [0, 1, 2]);
      // A cursor at the start of what was deleted.
      const { residency } = newRouterResidency(first, 3);
      const third = newRouter(server.address, { residency });
      await caughtUp(third);
      publish(third, 5, 5);
      await seqReached(third, 5);
    });

    it("is over when the log is stopped, whether the server was there or not", async () => {
      const nobody = newRouter(`127.0.0.1:${await freePort()}`);
      expect(nobody.isCaughtUp()).toBe(false);
      await nobody.log.stop();
      await caughtUp(nobody);
      const server = await startServer();
      const hasty = newRouter(server.address);
      await hasty.log.stop();
      await caughtUp(hasty);
    });
  });

  it("leaves no connections behind at a server that cannot keep a log", async () => {
    const [port, monitorPort] = [await freePort(), await freePort()];
    const place = ["--addr", "127.0.0.1", "--port", String(port), "-m", String(monitorPort)];
    const server = await startChild({
      ...{ name: "nats-server", command: nats.path, args: place, clock: nodeClock },
      isReadyLine: (line) => line.includes("Server is ready"),
    });
    stops.push(() => server.stop());
    const router = newRouter(`127.0.0.1:${port}`);
    const errors = (): number =>
      router.meter.total("kvatlas_nats_errors_total", { operation: "connect" });
    await waitUntil("three attempts", () => errors() >= 3, WAIT_MS);
    const answer = await fetch(`http://127.0.0.1:${monitorPort}/connz`);
    const { num_connections: connections } = (await answer.json()) as { num_connections: number };
    expect(connections).toBeLessThanOrEqual(1);
    expect(router.log.isConnected).toBe(false);
  });

  it("splits messages to what the server accepts, and says what cannot be split", async () => {
    const server = await newServer();
    const router = newRouter(server.address);
    publish(router, 0, 0);
    const more = (words: number): KeyedEvent[] => [
      { type: "removed", tier: "gpu", handles: new BigUint64Array(words).fill(999n) },
    ];
    // Each fits into a message of 16 KiB alone, the last one does not.
    for (const seq of range(1, 9)) router.log.accept(batchOf(seq, podA, more(500)));
    await server.startWith("max_payload: 16384");
    await seqReached(router, 9);
    expect(blocksOf(router)).toEqual(range(0, 9));
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT" });
    router.log.accept(batchOf(10, podA, more(2000)));
    await seqReached(router, 10);
    expect(router.residency.cursorOf(podA)).toMatchObject({ reason: "oversized" });
  });

  it("connects anew after a server that closed the connection for good", async () => {
    const server = await startServer();
    const router = newRouter(server.address);
    publish(router, 0, 9);
    await seqReached(router, 9);
    await server.kill();
    await server.startWith("authorization { user: u, password: p }");
    const errors = (): number =>
      router.meter.total("kvatlas_nats_errors_total", { operation: "connect" });
    await waitUntil("refused for good", () => errors() > 0, WAIT_MS);
    publish(router, 10, 19);
    await server.kill();
    await server.start();
    await seqReached(router, 19);
    expect(blocksOf(router)).toEqual(range(0, 19));
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT" });
    expect(router.log.isConnected).toBe(true);
  });

  it("stops while the server is away, with batches that were not published", async () => {
    const server = await startServer();
    const router = newRouter(server.address);
    await caughtUp(router);
    await server.kill();
    publish(router, 0, 9);
    await waitUntil("disconnected", () => !router.log.isConnected, WAIT_MS);
    const startMs = nodeClock.nowMs();
    await router.log.stop();
    expect(nodeClock.nowMs() - startMs).toBeLessThan(8000);
  });
});

/** A residency whose log cursor stands at `seq` of the same stream. */
function newRouterResidency({ residency }: Router, seq: number): { residency: Residency } {
  const restored = new Residency({ index: new MemoryIndex(), entriesMax: 1000 });
  restored.setLogCursor({ stream: residency.logCursor?.stream ?? "", seq });
  return { residency: restored };
}
