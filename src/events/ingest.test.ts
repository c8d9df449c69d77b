/**
 * From an engine's socket to the index, over real ZMQ on loopback. The engine's side is an XPUB
 * socket: PUB on the wire, and it tells when a subscription has arrived, so that nothing is sent early.
 */
import { Encoder } from "@msgpack/msgpack";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { XPublisher } from "zeromq";
import { loadCapture } from "../../test/harness/golden.ts";
import {
  chainOf,
  holdingsOf,
  type KeysByDefinition,
  keysByDefinition,
} from "../../test/harness/golden-holdings.ts";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../../test/harness/recording-meter.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { Residency } from "../indexer/residency.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { Applier } from "./applier.ts";
import { PAYLOAD_BYTES_MAX } from "./event-payload.ts";
import { type EventSource, Ingest } from "./ingest.ts";

const SEED = 7;
const MODEL = "model";
const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };
const encoder = new Encoder({ useBigInt64: true });

let hasher: BlockHasher;
let keysOf: KeysByDefinition;

beforeAll(async () => {
  hasher = await createBlockHasher(SEED);
  keysOf = await keysByDefinition(SEED);
});

/** Ended after each test, the latest first. */
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

interface Router {
  readonly ingest: Ingest;
  readonly index: MemoryIndex;
  readonly residency: Residency;
  readonly meter: RecordingMeter;
}

function newRouter(ready: Promise<void> = Promise.resolve(), hintLifeMs?: number): Router {
  const index = new MemoryIndex();
  const residency = new Residency({ index, entriesMax: 10_000 });
  const meter = recordingMeter();
  const parts = { residency, clock: nodeClock, log: silentLog, meter };
  const sink = new Applier(parts);
  const life = hintLifeMs === undefined ? {} : { hintLifeMs };
  const ingest = new Ingest({ ...parts, ...life, hasher, sink, ready });
  stops.push(() => ingest.stop());
  return { ingest, index, residency, meter };
}

class Engine {
  readonly #socket = new XPublisher({ linger: 0 });
  #time = 0;

  static async start(address = "tcp://127.0.0.1:0"): Promise<Engine> {
    const engine = new Engine();
    // libzmq frees a closed socket's port a moment later.
    await waitUntil("the address is free", async () => {
      await engine.#socket.bind(address).catch(() => {});
      return engine.#socket.lastEndpoint !== null;
    });
    stops.push(() => engine.stop());
    return engine;
  }

  get address(): string {
    return this.#socket.lastEndpoint ?? "";
  }

  source(holder: Holder, topic = ""): EventSource {
    return { holder, model: MODEL, address: this.address, replayAddress: null, topic };
  }

  /** Resolves at the next subscription (true) or its end (false). */
  async subscription(): Promise<boolean> {
    const [message] = await this.#socket.receive();
    return message?.[0] === 1;
  }

  async send(frames: readonly Uint8Array[]): Promise<void> {
    await this.#socket.send(frames.map((frame) => Buffer.from(frame)));
  }

  /** Publishes a batch that stores root blocks of one token. */
  async store(seq: number, blocks: readonly number[], topic = ""): Promise<void> {
    const stored = blocks.map((block) => ["BlockStored", [block], null, [block], 1, null, "GPU"]);
    this.#time += 1;
    await this.send(framesOf(seq, encoder.encode([1e9 + this.#time, stored, 0]), topic));
  }

  stop(): void {
    if (!this.#socket.closed) this.#socket.close();
  }
}

function framesOf(seq: number, payload: Uint8Array, topic = ""): Uint8Array[] {
  const sequence = new Uint8Array(8);
  new DataView(sequence.buffer).setBigUint64(0, BigInt(seq));
  return [new TextEncoder().encode(topic), sequence, payload];
}

const refusedFor = ({ meter }: Router, reason: string): number =>
  meter.total("kvatlas_events_refused_total", { reason });
const seqReached = ({ residency }: Router, holder: Holder, seq: number): Promise<void> =>
  waitUntil(`sequence ${seq}`, () => residency.cursorOf(holder)?.seq === seq);
const blocksOf = ({ residency }: Router, holder: Holder): bigint[] =>
  [...residency.records(holder)].map(([handle]) => handle).sort((a, b) => Number(a - b));

describe("ingest", () => {
  it.each([
    "vllm-0.11.2/b_eviction",
    "vllm-0.33.0/a_shared_prefix.sha256.seed_0.bytes",
    "vllm-0.33.0/g_offload_cpu.placeholder",
    "vllm-0.33.0/k2_publisher_restart",
  ])("brings the golden capture %s into the index", async (name) => {
    const capture = loadCapture(name);
    const [router, engine] = [newRouter(), await Engine.start()];
    router.ingest.reconcile([engine.source(podA, capture.expected.topic)]);
    await engine.subscription();
    for (const { frames } of capture.messages) await engine.send(frames);
    const messages = capture.messages.length;
    await waitUntil(
      "all messages",
      () => router.meter.total("kvatlas_events_messages_total") === messages,
    );
    const held = holdingsOf(capture);
    expect(router.index.stats().entriesByTier).toMatchObject({
      gpu: held.gpu.size,
      cpu: held.cpu.size,
    });
    const isOffload = name.includes("g_offload");
    expect(router.residency.cursorOf(podA)?.reason).toBe(isOffload ? "lower-tiers" : null);
    const holders = capture.expected.requests.flatMap((request) => {
      const chain = keysOf(chainOf(request, capture, MODEL));
      return router.index.match(BigUint64Array.from(chain)).map(({ holder }) => holder);
    });
    expect(holders).toContainEqual(podA);
  });

  it("counts malformed frames by reason and goes on: what they carried shows as a gap only", async () => {
    const [router, engine] = [newRouter(), await Engine.start()];
    router.ingest.reconcile([engine.source(podA)]);
    await engine.subscription();
    await engine.store(0, [1]);
    const [topic, payload] = [new Uint8Array(0), encoder.encode([1.5, [], 0])];
    const sequence = new Uint8Array(8).fill(1, 7);
    await engine.send([topic, sequence]);
    await engine.send([topic, sequence, payload, payload]);
    await engine.send([topic, sequence.subarray(1), payload]);
    await engine.send([topic, new Uint8Array(8).fill(255), payload]);
    await engine.store(1, [2]);
    await seqReached(router, podA, 1);
    expect(refusedFor(router, "frame-count")).toBe(2);
    expect(refusedFor(router, "sequence-frame")).toBe(2);
    expect(blocksOf(router, podA)).toEqual([1n, 2n]);
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT" });
  });

  it.each([
    ["not-msgpack", Uint8Array.of(0xc1)],
    ["not-msgpack", new Uint8Array(0)],
    ["malformed-batch", encoder.encode({ events: [] })],
    ["oversized", new Uint8Array(PAYLOAD_BYTES_MAX + 1)],
  ])(
    "counts a %s payload, degrades the holder and applies the next one",
    async (reason, payload) => {
      const [router, engine] = [newRouter(), await Engine.start()];
      router.ingest.reconcile([engine.source(podA)]);
      await engine.subscription();
      await engine.store(0, [1]);
      await engine.send(framesOf(1, payload));
      await engine.store(2, [2]);
      await seqReached(router, podA, 2);
      expect(refusedFor(router, reason)).toBe(1);
      expect(blocksOf(router, podA)).toEqual([1n, 2n]);
      expect(router.residency.cursorOf(podA)).toMatchObject({
        state: "DEGRADED",
        reason: "undecodable",
      });
      expect(router.meter.total("kvatlas_events_gaps_total")).toBe(0);
    },
  );

  it("connects again after a message beyond what its socket accepts, and shows the gap", async () => {
    const [router, engine] = [newRouter(), await Engine.start()];
    router.ingest.reconcile([engine.source(podA)]);
    await engine.subscription();
    await engine.store(0, [1]);
    await engine.send(framesOf(1, new Uint8Array(34_000_000)));
    while (!(await engine.subscription()));
    await engine.store(2, [2]);
    await seqReached(router, podA, 2);
    expect(refusedFor(router, "protocol-violation")).toBe(1);
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "DEGRADED", reason: "gap" });
    expect(blocksOf(router, podA)).toEqual([1n, 2n]);
  });

  it("drops a source that leaves, with its blocks, and leaves the others alone", async () => {
    const router = newRouter();
    const [engineA, engineB] = [await Engine.start(), await Engine.start()];
    router.ingest.reconcile([engineA.source(podA), engineB.source(podB)]);
    await Promise.all([engineA.subscription(), engineB.subscription()]);
    await engineA.store(0, [1, 2]);
    await engineB.store(0, [1]);
    await seqReached(router, podA, 0);
    await seqReached(router, podB, 0);

    router.ingest.reconcile([engineB.source(podB)]);
    expect(router.index.stats().entriesByTier.gpu).toBe(1);
    expect(router.residency.cursorOf(podA)).toBeNull();
    while (await engineA.subscription());
    await engineA.store(1, [3]);
    await engineB.store(1, [4]);
    await seqReached(router, podB, 1);
    expect(blocksOf(router, podA)).toEqual([]);
    expect(blocksOf(router, podB)).toEqual([1n, 4n]);
  });

  it("keeps what a source said when its address changes, and goes on from there", async () => {
    const router = newRouter();
    const [before, after] = [await Engine.start(), await Engine.start()];
    router.ingest.reconcile([before.source(podA)]);
    await before.subscription();
    await before.store(0, [1]);
    await seqReached(router, podA, 0);
    router.ingest.reconcile([before.source(podA)]);
    router.ingest.reconcile([after.source(podA)]);
    await after.subscription();
    await after.store(1, [2]);
    await seqReached(router, podA, 1);
    expect(blocksOf(router, podA)).toEqual([1n, 2n]);
    // No replay shows that it is the same engine, in the same life.
    const unproven = { state: "DEGRADED", reason: "unproven-life", epoch: 1 };
    expect(router.residency.cursorOf(podA)).toMatchObject(unproven);
    expect(router.meter.total("kvatlas_events_messages_total")).toBe(2);
  });

  it("drops the former life of an engine that comes back on the same address", async () => {
    const [router, engine] = [newRouter(), await Engine.start()];
    router.ingest.reconcile([engine.source(podA)]);
    await engine.subscription();
    await engine.store(0, [1]);
    await engine.store(1, [2]);
    await seqReached(router, podA, 1);
    const { address } = engine;
    engine.stop();
    const next = await Engine.start(address);
    await next.subscription();
    // The engine's time goes on over its lives.
    await next.send(
      framesOf(0, encoder.encode([2e9, [["BlockStored", [9], null, [9], 1, null]], 0])),
    );
    await seqReached(router, podA, 0);
    expect(blocksOf(router, podA)).toEqual([9n]);
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT", epoch: 2 });
  });

  it("keeps ranks apart, and reads only its source's topic", async () => {
    const [router, engine] = [newRouter(), await Engine.start()];
    const rank1: Holder = { ...podA, rank: 1 };
    router.ingest.reconcile([engine.source(podA, "rank0"), engine.source(rank1, "rank1")]);
    await engine.subscription();
    await engine.subscription();
    await engine.store(0, [1], "rank0");
    await engine.store(0, [2], "rank1");
    await engine.store(0, [3], "rank2");
    await engine.store(1, [4], "rank0");
    await engine.store(1, [5], "rank1");
    await seqReached(router, podA, 1);
    await seqReached(router, rank1, 1);
    expect([blocksOf(router, podA), blocksOf(router, rank1)]).toEqual([
      [1n, 4n],
      [2n, 5n],
    ]);
  });

  it("holds messages back until it is ready, and loses none of them", async () => {
    let markReady = (): void => {};
    const ready = new Promise<void>((resolve) => {
      markReady = resolve;
    });
    const [router, engine] = [newRouter(ready), await Engine.start()];
    router.ingest.reconcile([engine.source(podA)]);
    await engine.subscription();
    for (let seq = 0; seq < 100; seq += 1) await engine.store(seq, [seq]);
    expect(router.residency.cursorOf(podA)).toBeNull();
    markReady();
    await seqReached(router, podA, 99);
    expect(blocksOf(router, podA)).toHaveLength(100);
    expect(router.residency.cursorOf(podA)).toMatchObject({ state: "EXACT" });
  });

  it("stops though it never became ready", async () => {
    const [router, engine] = [newRouter(new Promise(() => {})), await Engine.start()];
    router.ingest.reconcile([engine.source(podA)]);
    await engine.subscription();
    await engine.store(0, [1]);
    await router.ingest.stop();
    expect(router.residency.cursorOf(podA)).toBeNull();
  });

  it("is not disturbed by addresses where nobody is, or that are none", async () => {
    const [router, engine] = [newRouter(), await Engine.start()];
    const nobody = { ...engine.source(podB), address: "tcp://127.0.0.1:1" };
    const rank1 = { ...podB, rank: 1 };
    const nonsense = { ...engine.source(rank1), address: "nonsense" };
    router.ingest.reconcile([nobody, nonsense, engine.source(podA)]);
    await engine.subscription();
    await engine.store(0, [1]);
    await seqReached(router, podA, 0);
    expect(router.residency.cursorOf(podB)).toBeNull();
    await router.ingest.stop();
    router.ingest.reconcile([]);
    expect(router.index.stats().blocks).toBe(0);
  });
});

describe("a connector's stores", () => {
  const stored = (medium: string): unknown => ["BlockStored", [1], null, [1], 1, null, medium];
  const both = framesOf(0, encoder.encode([1e9, [stored("GPU"), stored("cpu")], 0]));
  const cpu = ({ index }: Router): number => index.stats().entriesByTier.cpu;

  it("end while their engine is silent", async () => {
    const router = newRouter(Promise.resolve(), 50);
    const engine = await Engine.start();
    router.ingest.reconcile([{ ...engine.source(podA), engine: "mooncake" }]);
    await engine.subscription();
    await engine.send(both);
    await seqReached(router, podA, 0);
    await waitUntil("the hint ends", () => cpu(router) === 0);
    expect(router.index.stats().entriesByTier.gpu).toBe(1);
    expect(router.residency.cursorOf(podA)).toMatchObject({ reason: "no-removals", seq: 0 });
  });

  it("of unknown age end with another relay's start", async () => {
    const router = newRouter();
    const engine = await Engine.start();
    router.ingest.reconcile([{ ...engine.source(podA), engine: "mooncake" }]);
    await engine.subscription();
    await engine.send(both);
    await seqReached(router, podA, 0);
    expect(cpu(router)).toBe(1);
    const { residency, meter } = router;
    const parts = { residency, clock: nodeClock, log: silentLog, meter };
    const ready = Promise.resolve();
    const next = new Ingest({ ...parts, hasher, sink: new Applier(parts), ready });
    stops.push(() => next.stop());
    next.reconcile([{ ...engine.source(podA), engine: "mooncake" }]);
    await waitUntil("the hint ends", () => cpu(router) === 0);
    expect(router.index.stats().entriesByTier.gpu).toBe(1);
  });
});
