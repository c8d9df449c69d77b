/** The write path's thread, against real engines: what the decisions see, its failures and its end. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { IngestThread } from "../../src/app/ingest-thread.ts";
import { configSchema } from "../../src/config/schema.ts";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import type { Log } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import type { EventSource } from "../../src/events/ingest.ts";
import { EvictionBoard } from "../../src/indexer/eviction-board.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { type RecordingMeter, recordingMeter } from "../harness/recording-meter.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const MODEL = "lab-8b";
const PROMPT = promptOf(1, 320);
const hasher = await createBlockHasher(0);
const keys = hasher.chainKeys({
  parent: hasher.rootKey({ model: MODEL, lora: null, blockSizeTokens: 16 }),
  ...{ tokens: Uint32Array.from(PROMPT), blockSizeTokens: 16 },
});

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

interface Started {
  readonly thread: IngestThread;
  readonly meter: RecordingMeter;
  readonly lines: string[];
  readonly evictions: EvictionBoard;
}

async function startThread(path: string | null = null): Promise<Started> {
  const meter = recordingMeter();
  const lines: string[] = [];
  const say = (_: object, message: string): void => void lines.push(message);
  const log: Log = { debug: say, info: say, warn: say, error: say };
  const evictions = new EvictionBoard();
  const config = configSchema.parse({ model: MODEL, index: { path, flushMs: 10 } });
  const thread = await IngestThread.start(config, { clock: nodeClock, log, meter, evictions });
  stops.push(() => thread.stop());
  return { thread, meter, lines, evictions };
}

async function startEngine(): Promise<LabEngine> {
  const engine = await startLabEngine({ timeScale: 0 }, { clock: nodeClock });
  stops.push(() => engine.stop());
  return engine;
}

const holderOf = (engine: LabEngine): Holder => ({
  endpointId: endpointId(engine.address),
  rank: 0,
});
const sourceOf = (engine: LabEngine): EventSource => ({
  ...{ holder: holderOf(engine), model: MODEL, address: engine.kvEventsAddress },
  ...{ replayAddress: engine.replayAddress, topic: "" },
});

async function complete(engine: LabEngine): Promise<void> {
  const body = JSON.stringify({ model: MODEL, prompt: PROMPT, max_tokens: 1 });
  const url = `http://${engine.address}/v1/completions`;
  expect((await fetch(url, { method: "POST", body })).status).toBe(200);
}

const known = (thread: IngestThread, engine: LabEngine, blocks: number): Promise<void> =>
  waitUntil(`${blocks} blocks are known`, () => {
    const isHeard = thread.holders.blocksOf(holderOf(engine)) === blocks;
    return isHeard && (thread.index.match(keys)[0]?.blocks ?? 0) === blocks;
  });

describe("the write path's thread", () => {
  it("feeds index, states, evictions and metrics, and keeps the store", async () => {
    const folder = mkdtempSync(join(tmpdir(), "kvatlas-thread-"));
    stops.push(() => rmSync(folder, { recursive: true, force: true }));
    const first = await startThread(folder);
    const { thread, meter, evictions } = first;
    const engine = await startEngine();
    const holder = holderOf(engine);
    const beganMs = nodeClock.nowMs();
    thread.events.reconcile([sourceOf(engine)]);
    await waitUntil("its socket is connected", () => engine.subscriptions() > 0);
    await complete(engine);
    await known(thread, engine, 20);
    expect(thread.holders.cursorOf(holder)).toMatchObject({
      state: "EXACT",
      blockSizesTokens: [16],
    });
    expect([...thread.holders.blockSizes()]).toEqual([16]);
    expect(thread.events.factsOf(holder)).toMatchObject({ address: engine.kvEventsAddress });
    const heardMs = thread.events.heardMsOf(holder) ?? 0;
    expect(heardMs).toBeGreaterThanOrEqual(beganMs);
    expect(heardMs).toBeLessThanOrEqual(nodeClock.nowMs());
    await thread.report();
    expect(meter.total("kvatlas_events_blocks_total", { kind: "stored" })).toBe(20);

    const watched = evictions.watch(holder.endpointId, keys[19] ?? 0n);
    await waitUntil("all is evicted", () => {
      engine.evictAll();
      return engine.cachedBlocks().length === 0;
    });
    await waitUntil("the removals are seen", () => thread.index.match(keys).length === 0);
    expect(watched.isEvicted).toBe(true);
    await complete(engine);
    await known(thread, engine, 20);
    await thread.stop();
    expect(first.lines).not.toContain("write path failed");

    const { thread: second } = await startThread(folder);
    await waitUntil("the store is read", () => second.index.match(keys).length > 0);
    expect(second.index.match(keys)).toMatchObject([{ holder, blocks: 20 }]);
    second.events.reconcile([]);
    await waitUntil("what left the fleet is forgotten", () => second.index.stats().blocks === 0);
  });

  it("is begun again after a failure, and says so meanwhile", async () => {
    const { thread, meter, lines } = await startThread();
    const engine = await startEngine();
    const degraded = (): number => meter.value("kvatlas_degraded", { component: "ingest" });
    thread.events.reconcile([sourceOf(engine)]);
    await waitUntil("its socket is connected", () => engine.subscriptions() > 0);
    await complete(engine);
    await known(thread, engine, 20);

    // No source at all: what the thread does with it throws.
    thread.events.reconcile([null as unknown as EventSource]);
    thread.events.reconcile([sourceOf(engine)]);
    await waitUntil("it has failed", () => degraded() === 1);
    expect(thread.index.match(keys)).toEqual([]);
    expect(thread.holders.cursorOf(holderOf(engine))).toBeNull();
    expect(thread.events.resync(holderOf(engine))).toBe(false);
    expect(thread.detail().events).toContain("DEGRADED");
    await waitUntil("it works again", () => degraded() === 0);
    expect(meter.total("kvatlas_ingest_crashes_total")).toBe(1);
    expect(lines).toContain("write path failed");
    await waitUntil("it reads again", () => engine.subscriptions() > 0);
    await complete(engine);
    await waitUntil("it is heard again", () => thread.holders.cursorOf(holderOf(engine)) !== null);
  });

  it("is given up when it fails each time: then nothing is known", {
    timeout: 90_000,
  }, async () => {
    const { thread, meter, lines } = await startThread();
    thread.events.reconcile([null as unknown as EventSource]);
    const isGivenUp = (): boolean => lines.some((line) => /not begun again/.test(line));
    await waitUntil("it is given up", isGivenUp, 60_000);
    expect(meter.total("kvatlas_ingest_crashes_total")).toBe(5);
    expect(meter.value("kvatlas_degraded", { component: "ingest" })).toBe(1);
    expect(thread.index.match(keys)).toEqual([]);
    await thread.report();
    await thread.stop();
  });

  it("lets go at once when the process is to exit", async () => {
    const { thread } = await startThread();
    const engine = await startEngine();
    thread.events.reconcile([sourceOf(engine)]);
    await waitUntil("its socket is connected", () => engine.subscriptions() > 0);
    await thread.abandon();
    await waitUntil("its socket is closed", () => engine.subscriptions() === 0);
  });
});
