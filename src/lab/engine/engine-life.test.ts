/** Ranks, replay, tiers, restarts and faults of a whole engine, over its real sockets. */
import { decode } from "@msgpack/msgpack";
import { afterEach, describe, expect, it } from "vitest";
import { Dealer, Subscriber } from "zeromq";
import { nodeClock } from "../../core/node-clock.ts";
import { type LabEngine, startLabEngine } from "./engine.ts";
import type { LabEngineOptions } from "./engine-options.ts";
import { portOf, rankAddress } from "./port-range.ts";
import { seqFrame } from "./seq-frame.ts";

const engines: LabEngine[] = [];
const sockets: { close(): void }[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.close();
  for (const engine of engines.splice(0)) await engine.stop();
});

async function start(options: Partial<LabEngineOptions> = {}): Promise<LabEngine> {
  const engine = await startLabEngine({ timeScale: 0, ...options }, { clock: nodeClock });
  engines.push(engine);
  return engine;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await turn();
}

/** A subscriber of one rank, once the engine knows of it. */
async function subscribe(engine: LabEngine, rank = 0): Promise<Subscriber> {
  const socket = new Subscriber();
  sockets.push(socket);
  socket.subscribe();
  socket.connect(rankAddress(engine.kvEventsAddress, rank));
  await until(() => engine.subscriptions(rank) > 0);
  return socket;
}

async function complete(
  engine: LabEngine,
  prompt: readonly number[],
  headers: Record<string, string> = {},
): Promise<number> {
  const body = JSON.stringify({ prompt, max_tokens: 1 });
  const url = `http://${engine.address}/v1/completions`;
  const response = await fetch(url, { method: "POST", headers, body });
  const { usage } = (await response.json()) as {
    usage: { prompt_tokens_details: { cached_tokens: number } };
  };
  return usage.prompt_tokens_details.cached_tokens;
}

const prompt = (seed: number, tokens = 32): number[] =>
  Array.from({ length: tokens + 1 }, (_, index) => seed * 1000 + index);

interface Received {
  readonly seq: number;
  readonly tags: readonly string[];
  readonly rank: unknown;
  readonly frames: number;
}

function received([, seq, payload, ...more]: readonly Buffer[]): Received {
  const batch = decode(payload ?? [], { useBigInt64: true }) as [number, unknown[], unknown];
  return {
    seq: Number(seq?.readBigUInt64BE()),
    tags: batch[1].map((event) => String(Object.values(event as object)[0])),
    rank: batch[2],
    frames: 3 + more.length,
  };
}

/** Sequence numbers that the replay socket of a rank has from `startSeq`. */
async function replayed(engine: LabEngine, startSeq: number, rank = 0): Promise<number[]> {
  const socket = new Dealer({ linger: 0 });
  sockets.push(socket);
  socket.connect(rankAddress(engine.replayAddress ?? "", rank));
  await socket.send([Buffer.alloc(0), seqFrame(startSeq)]);
  const seqs: number[] = [];
  for (;;) {
    const seq = (await socket.receive())[2]?.readBigUInt64BE() ?? 0n;
    if (seq === 0xffff_ffff_ffff_ffffn) return seqs;
    seqs.push(Number(seq));
  }
}

describe("data-parallel ranks", () => {
  it("share the HTTP port in turn, and each publish what they hold on a port of their own", async () => {
    const engine = await start({ ranks: 3, replayPort: 0 });
    const subscribers = [];
    for (const rank of [0, 1, 2]) subscribers.push(await subscribe(engine, rank));
    expect(engine.subscriptions()).toBe(1);
    for (const seed of [1, 2, 3, 4]) await complete(engine, prompt(seed));
    // The fourth prompt is rank 0's; rank 2 is asked for it by name.
    expect(await complete(engine, prompt(4), { "x-data-parallel-rank": "0" })).toBe(32);
    expect(await complete(engine, prompt(4), { "x-data-parallel-rank": "2" })).toBe(0);
    expect([0, 1, 2].map((rank) => engine.publishedSeq(rank))).toEqual([1, 0, 1]);
    expect([0, 1, 2].map((rank) => engine.cachedBlocks(rank).length)).toEqual([4, 2, 4]);
    expect(engine.cachedBlocks().length).toBe(10);
    for (const [rank, subscriber] of subscribers.entries()) {
      expect(received(await subscriber.receive())).toMatchObject({ seq: 0, rank });
    }
    expect(await replayed(engine, 0, 2)).toEqual([0, 1]);
    const text = await (await fetch(`http://${engine.address}/metrics`)).text();
    expect(text).toMatch(/prompt_tokens_total\{engine="2",model_name="lab-8b"\} 66\n/);
    expect(engine.stats()).toMatchObject({ requests: 6, finished: 6, cachedTokens: 32 });
  });
});

describe("tiers of a whole engine", () => {
  it("are part of its truth, and go with reset_connector", async () => {
    const engine = await start({ gpuBlocks: 4, tiers: { cpuBlocks: 3, nvmeBlocks: 3 } });
    for (const seed of [1, 2, 3]) await complete(engine, prompt(seed));
    const tiers = (): string[] => engine.cachedBlocks().map(({ tier }) => tier);
    expect(tiers()).toEqual(["gpu", "gpu", "cpu", "cpu", "cpu", "nvme"]);
    expect(await complete(engine, prompt(1))).toBe(32);
    const counts = await (await fetch(`http://${engine.address}/lab/blocks`)).json();
    expect(counts).toMatchObject({ cachedBlocks: 2, cpuBlocks: 3, nvmeBlocks: 3 });
    const metrics = await (await fetch(`http://${engine.address}/metrics`)).text();
    expect(metrics).toMatch(/vllm:prefix_cache_hits_total\{.*\} 0\n/);
    expect(metrics).toMatch(/vllm:external_prefix_cache_hits_total\{.*\} 32\n/);
    const reset = (query: string): Promise<unknown> =>
      fetch(`http://${engine.address}/reset_prefix_cache${query}`, { method: "POST" });
    await reset("");
    expect(tiers().sort()).toEqual(["cpu", "cpu", "cpu", "nvme", "nvme", "nvme"]);
    await reset("?reset_connector=true");
    expect(tiers()).toEqual([]);
  });
});

describe("a restart", () => {
  it("begins again on the same ports, without a word about what was lost", async () => {
    const engine = await start({ replayPort: 0 });
    const { address, kvEventsAddress, replayAddress } = engine;
    const socket = await subscribe(engine);
    await complete(engine, prompt(1));
    await complete(engine, prompt(2));
    expect([received(await socket.receive()).seq, received(await socket.receive()).seq]).toEqual([
      0, 1,
    ]);
    // A socket subscribes again only while its owner reads from it.
    const next = socket.receive();
    await engine.restart();
    expect([engine.address, engine.kvEventsAddress, engine.replayAddress]).toEqual([
      address,
      kvEventsAddress,
      replayAddress,
    ]);
    expect([engine.cachedBlocks(), engine.publishedSeq()]).toEqual([[], -1]);
    expect(await replayed(engine, 0)).toEqual([]);
    await until(() => engine.subscriptions() > 0);
    expect(await complete(engine, prompt(1))).toBe(0);
    expect(received(await next)).toMatchObject({ seq: 0, tags: ["BlockStored"] });
  });

  it("aborts requests in flight, and may change other options", async () => {
    const engine = await start({ timeScale: 1, stepBaseSeconds: 3600 });
    const running = complete(engine, prompt(1));
    await until(() => engine.stats().running > 0);
    const refused = expect(running).rejects.toThrow();
    await engine.restart({ timeScale: 0, hashSeed: "another" });
    await refused;
    expect(engine.stats()).toMatchObject({ requests: 0, running: 0 });
    await complete(engine, prompt(1));
    expect(engine.options.hashSeed).toBe("another");
  });
});

describe("faults over the sockets", () => {
  it("drop from the wire and not from the replay buffer, of which the oldest are gone", async () => {
    const engine = await start({ replayPort: 0, bufferSteps: 3 });
    const socket = await subscribe(engine);
    await complete(engine, prompt(1));
    engine.faults.dropNext(2);
    for (const seed of [2, 3, 4]) await complete(engine, prompt(seed));
    const seqs = [received(await socket.receive()).seq, received(await socket.receive()).seq];
    expect(seqs).toEqual([0, 3]);
    expect(await replayed(engine, 0)).toEqual([1, 2, 3]);
    engine.faults.regressTo(1);
    await complete(engine, prompt(5));
    expect(received(await socket.receive()).seq).toBe(1);
    expect([engine.publishedSeq(), await replayed(engine, 0)]).toEqual([1, [2, 3, 1]]);
  });

  it("hold events of one life into the next one", async () => {
    const engine = await start();
    const socket = await subscribe(engine);
    engine.faults.holdNext();
    await complete(engine, prompt(1));
    const first = socket.receive();
    await engine.restart();
    await until(() => engine.subscriptions() > 0);
    await complete(engine, prompt(2));
    engine.faults.release();
    await complete(engine, prompt(3));
    const seqs = [received(await first).seq];
    while (seqs.length < 3) seqs.push(received(await socket.receive()).seq);
    expect(seqs).toEqual([0, 0, 1]);
  });

  it("tell events and fields of no version, hits as stores, and removals too many", async () => {
    for (const encoding of ["map", "array"] as const) {
      const engine = await start({ encoding });
      const socket = await subscribe(engine);
      await complete(engine, prompt(1));
      await socket.receive();
      engine.faults.set({
        hasUnknownEvents: true,
        hasExtraFields: true,
        areHitsReported: true,
        isUnknownRemoved: true,
        isRemovalDoubled: true,
      });
      await complete(engine, [...prompt(1), ...prompt(2)]);
      expect(received(await socket.receive()).tags).toEqual([
        "BlockRemoved",
        "BlockStored",
        "BlockStored",
        "LabBlockPinned",
      ]);
      engine.evictPrefix(Uint32Array.from(prompt(1)));
      const [, , payload] = await socket.receive();
      const batch = decode(payload ?? [], { useBigInt64: true }) as unknown[];
      expect(batch).toHaveLength(4);
      const removed = (batch[1] as object[]).map((event) => Object.values(event));
      expect(removed).toHaveLength(6);
      expect(removed[1]?.[1]).toEqual(removed[2]?.[1]);
      expect(removed[1]).toHaveLength(5);
    }
  });

  it("connect to a subscriber that has bound", async () => {
    const socket = new Subscriber();
    sockets.push(socket);
    socket.subscribe();
    await socket.bind("tcp://127.0.0.1:*");
    const place = socket.lastEndpoint ?? "";
    // A SUB that binds subscribes only while its owner is in the socket.
    const first = socket.receive();
    const engine = await start({ kvEventsConnect: place });
    expect(engine.kvEventsAddress).toBe(place);
    await until(() => engine.subscriptions() > 0);
    await complete(engine, prompt(1));
    expect(received(await first)).toMatchObject({ seq: 0, tags: ["BlockStored"] });
    await engine.restart({ kvEventsConnect: null });
    expect(portOf(engine.kvEventsAddress)).not.toBe(portOf(place));
  });
});
