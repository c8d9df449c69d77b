/** Gaps, restarts and late starts against engines with a real replay socket: the index heals. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startWritePath, type WritePath } from "../../src/app/write-path.ts";
import { configSchema } from "../../src/config/schema.ts";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { Applier } from "../../src/events/applier.ts";
import { Ingest, type IngestDeps } from "../../src/events/ingest.ts";
import type { KeyedBatch } from "../../src/events/keyed-batch.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import type { LabEngineOptions } from "../../src/lab/engine/engine-options.ts";
import { MemoryIndex } from "../harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../harness/recording-meter.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const MODEL = "lab-8b";
const stops: (() => Promise<void>)[] = [];

interface Setup {
  readonly engine: LabEngine;
  readonly holder: Holder;
  readonly residency: Residency;
  readonly meter: RecordingMeter;
}

/** Reads an engine's events into a sink. */
async function listen(
  engine: LabEngine,
  deps: Omit<IngestDeps, "hasher" | "ready">,
): Promise<Holder> {
  const hasher = await createBlockHasher(0);
  const ingest = new Ingest({ ...deps, hasher, ready: Promise.resolve() });
  stops.push(() => ingest.stop());
  const holder = { endpointId: endpointId(engine.address), rank: 0 };
  const { kvEventsAddress: address, replayAddress } = engine;
  ingest.reconcile([{ holder, model: MODEL, address, topic: "", replayAddress }]);
  return holder;
}

/** Starts a router's write path on an engine; `residency` as an earlier one left it. */
async function follow(
  engine: LabEngine,
  residency: Residency,
): Promise<Setup & { path: WritePath }> {
  const meter = recordingMeter();
  const ports = { clock: nodeClock, log: silentLog, meter };
  const hasher = await createBlockHasher(0);
  const path = startWritePath(configSchema.parse({ model: MODEL }), {
    ...ports,
    residency,
    hasher,
  });
  const holder = { endpointId: endpointId(engine.address), rank: 0 };
  path.ingest.reconcile([
    {
      ...{ holder, model: MODEL, address: engine.kvEventsAddress, topic: "" },
      replayAddress: engine.replayAddress,
    },
  ]);
  stops.push(() => path.stop());
  await waitUntil("the router is subscribed", () => engine.subscriptions() > 0);
  return { engine, holder, residency, meter, path };
}

const newResidency = (): Residency =>
  new Residency({ index: new MemoryIndex(), entriesMax: 100_000 });

async function complete(engine: LabEngine, seed: number, tokens = 64): Promise<void> {
  const answer = await fetch(`http://${engine.address}/v1/completions`, {
    method: "POST",
    body: JSON.stringify({ model: MODEL, prompt: promptOf(seed, tokens), max_tokens: 1 }),
  });
  expect(answer.status).toBe(200);
  await answer.arrayBuffer();
}

function handles(residency: Residency, holder: Holder): string[] {
  return [...residency.records(holder)].map(([handle]) => handle.toString(16)).sort();
}

const truth = (engine: LabEngine): string[] =>
  [...new Set(engine.cachedBlocks().map(({ engineHash }) => engineHash.toString(16)))].sort();

/** The index has all that the engine has said, and nothing else. */
async function healed({ engine, holder, residency }: Setup): Promise<void> {
  await waitUntil("the index equals the engine's cache", () => {
    const isCurrent = residency.cursorOf(holder)?.seq === engine.publishedSeq();
    return isCurrent && handles(residency, holder).join() === truth(engine).join();
  });
}

describe.each(["seq", "topic-seq"] as const)("with replies of form %s", (replayForm) => {
  const options: Partial<LabEngineOptions> = {
    timeScale: 0,
    gpuBlocks: 64,
    replayPort: 0,
    replayForm,
  };
  let engine: LabEngine;

  beforeEach(async () => {
    engine = await startLabEngine(options, { clock: nodeClock });
    stops.push(() => engine.stop());
  });
  afterEach(async () => {
    for (const stop of stops.splice(0).reverse()) await stop();
  });

  it("a router that starts after its engine learns all that was said, and is EXACT", async () => {
    for (let seed = 1; seed <= 5; seed += 1) await complete(engine, seed);
    const setup = await follow(engine, newResidency());
    await healed(setup);
    expect(setup.residency.cursorOf(setup.holder)).toMatchObject({ state: "EXACT" });
  });

  it("a gap is healed by what follows it, evictions included, and stays EXACT", async () => {
    const setup = await follow(engine, newResidency());
    await complete(engine, 1);
    engine.faults.dropNext(3);
    for (let seed = 2; seed <= 40; seed += 1) await complete(engine, seed);
    await healed(setup);
    expect(setup.residency.cursorOf(setup.holder)).toMatchObject({ state: "EXACT", epoch: 1 });
    expect(setup.meter.total("kvatlas_events_gaps_total")).toBe(0);
  });

  it("repeats and reordered messages change nothing", async () => {
    const setup = await follow(engine, newResidency());
    engine.faults.duplicateNext(3);
    for (let seed = 1; seed <= 4; seed += 1) await complete(engine, seed);
    engine.faults.swapNext(2);
    for (let seed = 5; seed <= 12; seed += 1) await complete(engine, seed);
    await healed(setup);
    expect(setup.residency.cursorOf(setup.holder)).toMatchObject({ state: "EXACT", epoch: 1 });
  });

  it("a message that was damaged on its way is asked for again, and costs nothing", async () => {
    const setup = await follow(engine, newResidency());
    await complete(engine, 1);
    engine.faults.truncateNext(1);
    for (let seed = 2; seed <= 6; seed += 1) await complete(engine, seed);
    await healed(setup);
    expect(setup.residency.cursorOf(setup.holder)).toMatchObject({ state: "EXACT", epoch: 1 });
    const reason = "not-msgpack";
    expect(setup.meter.total("kvatlas_events_refused_total", { reason })).toBeGreaterThan(0);
  });

  it("what a router lost for good is told again from the beginning, and is EXACT", async () => {
    for (let seed = 1; seed <= 4; seed += 1) await complete(engine, seed);
    const setup = await follow(engine, newResidency());
    await healed(setup);
    await setup.path.stop();
    const cursor = setup.residency.cursorOf(setup.holder);
    if (cursor === null) throw new Error("nothing was heard");
    setup.residency.setCursor(setup.holder, { ...cursor, state: "DEGRADED", reason: "gap" });
    const later = await follow(engine, setup.residency);
    await waitUntil(
      "it is EXACT again",
      () => later.residency.cursorOf(later.holder)?.state === "EXACT",
      15_000,
    );
    await healed(later);
  });

  it("a restart of the engine begins anew, and is EXACT", async () => {
    const setup = await follow(engine, newResidency());
    await complete(engine, 1);
    await complete(engine, 2);
    await healed(setup);
    await engine.restart();
    await complete(engine, 3);
    await healed(setup);
    const cursor = setup.residency.cursorOf(setup.holder);
    expect(cursor).toMatchObject({ state: "EXACT" });
    expect(cursor?.epoch).toBeGreaterThan(1);
  });

  it("a restart while no router listened is noticed, though the new life is longer", async () => {
    const setup = await follow(engine, newResidency());
    await complete(engine, 1);
    await healed(setup);
    await setup.path.stop();
    await engine.restart();
    for (let seed = 2; seed <= 6; seed += 1) await complete(engine, seed);
    const later = await follow(engine, setup.residency);
    await healed(later);
    expect(later.residency.cursorOf(later.holder)).toMatchObject({ state: "EXACT" });
  });

  it("messages said while no router listened are learned at the next start", async () => {
    const setup = await follow(engine, newResidency());
    await complete(engine, 1);
    await healed(setup);
    await setup.path.stop();
    for (let seed = 2; seed <= 30; seed += 1) await complete(engine, seed);
    const later = await follow(engine, setup.residency);
    await healed(later);
    expect(later.residency.cursorOf(later.holder)).toMatchObject({ state: "EXACT", epoch: 1 });
  });

  it("is DEGRADED, not wrong, where the buffer no longer reaches back", async () => {
    const setup = await follow(engine, newResidency());
    await complete(engine, 1);
    await healed(setup);
    await setup.path.stop();
    await engine.restart({ bufferSteps: 3 });
    for (let seed = 2; seed <= 30; seed += 1) await complete(engine, seed);
    const later = await follow(engine, setup.residency);
    await waitUntil(
      "the buffer is read",
      () => later.residency.cursorOf(later.holder)?.seq === engine.publishedSeq(),
    );
    expect(later.residency.cursorOf(later.holder)).toMatchObject({ state: "DEGRADED" });
    const known = handles(later.residency, later.holder);
    expect(known.length).toBeGreaterThan(0);
    expect(truth(engine)).toEqual(expect.arrayContaining(known));
  });

  it("what is lost because the sink throws at a replay's end is told again", async () => {
    const residency = newResidency();
    const meter = recordingMeter();
    const ports = { clock: nodeClock, log: silentLog, meter };
    const applier = new Applier({ ...ports, residency });
    await complete(engine, 1);
    await complete(engine, 2);
    const seqLast = engine.publishedSeq();
    let isFaulty = true;
    const sink = {
      accept: (batch: KeyedBatch): boolean => {
        if (!isFaulty || batch.seq !== seqLast) return applier.accept(batch);
        isFaulty = false;
        throw new Error("a fault of this program");
      },
    };
    const holder = await listen(engine, { ...ports, residency, sink });
    await waitUntil("it was lost", () => !isFaulty);
    const isExact = (): boolean => residency.cursorOf(holder)?.state === "EXACT";
    await waitUntil("it is EXACT", isExact, 15_000);
    await healed({ engine, holder, residency, meter });
    const reason = "internal-error";
    expect(meter.total("kvatlas_events_refused_total", { reason })).toBe(1);
  });

  it.each(["throws", "is full"])("what is lost because the sink %s is told again", async (how) => {
    const residency = newResidency();
    const meter = recordingMeter();
    const ports = { clock: nodeClock, log: silentLog, meter };
    const applier = new Applier({ ...ports, residency });
    let isFaulty = false;
    const sink = {
      accept: (batch: KeyedBatch): boolean => {
        if (!isFaulty) return applier.accept(batch);
        isFaulty = false;
        if (how === "throws") throw new Error("a fault of this program");
        return false;
      },
    };
    const holder = await listen(engine, { ...ports, residency, sink });
    await waitUntil("the router is subscribed", () => engine.subscriptions() > 0);
    await complete(engine, 1);
    await healed({ engine, holder, residency, meter });
    isFaulty = true;
    await complete(engine, 2);
    await complete(engine, 3);
    await waitUntil("it was lost", () => !isFaulty);
    const isExact = (): boolean => residency.cursorOf(holder)?.state === "EXACT";
    await waitUntil("it is not whole", () => !isExact());
    await waitUntil("it is EXACT again", isExact, 15_000);
    await healed({ engine, holder, residency, meter });
    const faults = meter.total("kvatlas_events_refused_total", { reason: "internal-error" });
    expect(faults).toBe(how === "throws" ? 1 : 0);
  });
});
