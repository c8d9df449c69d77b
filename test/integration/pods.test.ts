/** What the router says of its pods, against real engines: findings, fallback, audit, resynchronisation. */

import { afterEach, describe, expect, it } from "vitest";
import { KvPicker } from "../../src/app/kv-picker.ts";
import { LocalDecider } from "../../src/app/local-decider.ts";
import { ParityWatch } from "../../src/app/parity-watch.ts";
import { createPods, type Pods } from "../../src/app/pods.ts";
import type { PodReport } from "../../src/app/pods-report.ts";
import { startWritePath } from "../../src/app/write-path.ts";
import { configSchema } from "../../src/config/schema.ts";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { seededRandom } from "../../src/core/random.ts";
import { SAMPLE_BYTES_MAX } from "../../src/events/stream-facts.ts";
import { EventCount } from "../../src/extproc/event-count.ts";
import { Fleet } from "../../src/fleet/fleet.ts";
import { EvictionBoard } from "../../src/indexer/eviction-board.ts";
import { EvictionWatch } from "../../src/indexer/eviction-watch.ts";
import { InflightBlocks } from "../../src/indexer/inflight-blocks.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import type { LabEngineOptions } from "../../src/lab/engine/engine-options.ts";
import { DecisionRing } from "../../src/observe/decision-ring.ts";
import { engineRules } from "../../src/prompt/engine-rules.ts";
import { PromptReader } from "../../src/prompt/prompt-reader.ts";
import { Dispatcher } from "../../src/router/dispatcher.ts";
import { specOf } from "../harness/fleet-values.ts";
import { freePort } from "../harness/free-port.ts";
import { JumpClock } from "../harness/jump-clock.ts";
import { MemoryIndex } from "../harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../harness/recording-meter.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const MODEL = "lab-8b";
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

interface Router {
  readonly clock: JumpClock;
  readonly engines: readonly LabEngine[];
  readonly residency: Residency;
  readonly meter: RecordingMeter;
  readonly picker: KvPicker;
  readonly fleet: Fleet;
  readonly pods: Pods;
  /** What /pods says of the one engine, as of now. */
  readonly pod: () => PodReport | undefined;
}

type Engine = Partial<LabEngineOptions> & {
  /** Where the router reads events; null: nowhere. Without it where the engine publishes. */
  readonly readFrom?: string | null;
};

async function start(...options: readonly Engine[]): Promise<Router> {
  const clock = new JumpClock();
  const meter = recordingMeter();
  const ports = { clock, log: silentLog, meter };
  const config = configSchema.parse({ model: MODEL });
  const index = new MemoryIndex();
  const evictions = new EvictionBoard();
  const residency = new Residency({
    index: new EvictionWatch(index, evictions),
    entriesMax: 100_000,
  });
  const hasher = await createBlockHasher(0);
  const { ingest, stop } = startWritePath(config, { ...ports, residency, hasher });
  stops.push(stop);
  const inflight = new InflightBlocks();
  const fleet = new Fleet({ ...ports, blocks: inflight });
  const engines: LabEngine[] = [];
  const specs = [];
  for (const [position, { readFrom, ...rest }] of options.entries()) {
    const engine = await startLabEngine({ timeScale: 0, ...rest }, { clock: nodeClock });
    stops.push(() => engine.stop());
    engines.push(engine);
    const address = readFrom === undefined ? engine.kvEventsAddress : readFrom;
    const replay = engine.replayAddress;
    const kvEvents =
      address === null ? null : { address, engine: "vllm" as const, replay, ranks: 1, topic: "" };
    specs.push(specOf(engine.address, { name: `pod-${position}`, model: MODEL, kvEvents }));
  }
  fleet.apply(specs);
  ingest.reconcile(
    specs.flatMap(({ id, kvEvents }) =>
      kvEvents === null
        ? []
        : [
            {
              ...{ holder: { endpointId: id, rank: 0 }, model: MODEL, topic: "" },
              ...{ address: kvEvents.address, replayAddress: kvEvents.replay },
            },
          ],
    ),
  );
  await waitUntil("events are read", () =>
    engines.every((one, i) => options[i]?.readFrom !== undefined || one.subscriptions() > 0),
  );
  const rules = engineRules(config.prompt);
  const parity = new ParityWatch({
    ...{ ...ports, fleet, model: MODEL, tokenizer: null, rules },
  });
  const pods = createPods({
    ...{ ...ports, holders: residency, evictions, fleet, events: ingest, parity },
    assumedLifeMs: config.router.assumedLifeMs,
  });
  const random = seededRandom(1);
  const prompt = new PromptReader({
    ...{ ...config.prompt, rules, model: MODEL, hasher, tokenizer: null, meter },
  });
  const decider = new LocalDecider({
    ...{ ...ports, ...pods, index, holders: residency, fleet, flow: config.flow },
    ...{ decisions: new DecisionRing(16), onDispatch: (): void => {} },
    dispatcher: new Dispatcher({ fleet, inflight, random, config: config.router }),
  });
  const picker = new KvPicker({ prompt, decider, modelRewrites: new Map() });
  const pod = (): PodReport | undefined => {
    pods.watch.look();
    return pods.report()[0];
  };
  return { clock, engines, residency, meter, picker, fleet, pods, pod };
}

let requests = 0;

/** A request from decision to answer, as the edge shows it; returns the cached tokens. */
async function complete({ picker }: Router, prompt: readonly number[]): Promise<number> {
  requests += 1;
  const requestId = String(requests);
  const body = Buffer.from(JSON.stringify({ model: MODEL, prompt, max_tokens: 1 }));
  const outcome = await picker.pick(
    {
      ...{ requestId, method: "POST", path: "/v1/completions", headers: new Map() },
      ...{ body, subset: null },
    },
    new AbortController().signal,
    () => {},
  );
  if (outcome.kind !== "route") throw new Error(outcome.reason);
  const url = `http://${outcome.endpointId}/v1/completions`;
  const answer = await fetch(url, { method: "POST", body });
  picker.responseStarted(requestId, answer.status, null);
  const { usage } = JSON.parse(await answer.text());
  picker.firstByte(requestId);
  const cachedTokens: number = usage.prompt_tokens_details.cached_tokens;
  const tokens = { promptTokens: usage.prompt_tokens, completionTokens: usage.completion_tokens };
  picker.ended(requestId, { outcome: "complete", usage: { ...tokens, cachedTokens } });
  return cachedTokens;
}

const holderOf = (engine: LabEngine | undefined): Holder => ({
  endpointId: endpointId(engine?.address ?? ""),
  rank: 0,
});

const current = ({ engines, residency }: Router): Promise<void> =>
  waitUntil("the index is current", () =>
    engines.every((each) => residency.cursorOf(holderOf(each))?.seq === each.publishedSeq()),
  );

const predicted = ({ meter }: Router): number => meter.total("kvatlas_predicted_tokens_total");
const names = (pod: PodReport | undefined): string[] => pod?.findings.map(({ name }) => name) ?? [];

describe("the ledger", () => {
  it("follows the context of a streamed answer, and lets it go with its end", async () => {
    const { picker, fleet } = await start({});
    const body = JSON.stringify({
      model: MODEL,
      prompt: promptOf(1, 160),
      max_tokens: 64,
      stream: true,
    });
    const requestId = "streamed";
    const request = {
      ...{ requestId, method: "POST", path: "/v1/completions", headers: new Map() },
      ...{ body: Buffer.from(body), subset: null },
    };
    const outcome = await picker.pick(request, new AbortController().signal, () => {});
    if (outcome.kind !== "route") throw new Error(outcome.reason);
    const { endpointId } = outcome;
    const url = `http://${endpointId}/v1/completions`;
    const answer = await fetch(url, { method: "POST", body });
    picker.responseStarted(requestId, answer.status, null);
    picker.firstByte(requestId);
    expect(fleet.ledger.load(endpointId).contextTokens).toBe(160);
    const count = new EventCount();
    for await (const chunk of answer.body ?? []) picker.progressed(requestId, count.push(chunk));
    expect(fleet.ledger.load(endpointId)).toMatchObject({
      ...{ decoding: 1, contextTokens: 160 + 64, generatedTokens: 64 },
    });
    picker.ended(requestId, { outcome: "aborted", usage: null });
    const idle = { requests: 0, decoding: 0, contextTokens: 0, generatedTokens: 0 };
    expect(fleet.ledger.load(endpointId)).toMatchObject(idle);
  });
});

describe("findings", () => {
  it("events-silent: the pod is approximated meanwhile, and known again once it is heard", async () => {
    const router = await start({});
    const { engines, clock, pod, pods } = router;
    const id = holderOf(engines[0]).endpointId;
    engines[0]?.faults.set({ isSilent: true });
    await complete(router, promptOf(1, 160));
    expect(pod()).toMatchObject({ state: "FALLBACK", reason: "not-heard", assumedBlocks: 10 });
    expect(names(pod())).toEqual([]);
    clock.jump(31_000);
    expect(names(pod())).toEqual(["events-silent"]);
    expect(pod()?.findings[0]?.fix).toContain("--kv-events-config");

    const before = predicted(router);
    expect(await complete(router, [...promptOf(1, 160), 1])).toBe(160);
    expect(predicted(router) - before).toBe(160);
    clock.jump(120_000);
    expect(pod()).toMatchObject({ assumedBlocks: 0 });

    engines[0]?.faults.set({ isSilent: false });
    await complete(router, promptOf(2, 160));
    await current(router);
    expect(pod()).toMatchObject({ state: "DEGRADED", findings: [], assumedBlocks: 0 });
    expect(pods.knowledge.assumed.blocksOf(id)).toBe(0);
  });

  it("events-silent: also of one that was heard before; what was heard then is not used", async () => {
    const router = await start({});
    const { engines, clock, pod } = router;
    await complete(router, promptOf(1, 160));
    await current(router);
    expect(pod()).toMatchObject({ state: "EXACT", findings: [] });
    engines[0]?.faults.set({ isSilent: true });
    await complete(router, promptOf(2, 160));
    clock.jump(31_000);
    expect(pod()).toMatchObject({ state: "FALLBACK", reason: "events-silent" });
    const before = predicted(router);
    await complete(router, promptOf(1, 160));
    expect(predicted(router)).toBe(before);
  });

  it("never-connected: an engine that connects in place of binding", async () => {
    const place = `tcp://127.0.0.1:${await freePort()}`;
    const { clock, pod } = await start({ kvEventsConnect: place, readFrom: place });
    expect(names(pod())).toEqual([]);
    clock.jump(10_000);
    expect(names(pod())).toEqual(["never-connected"]);
    expect(pod()?.findings[0]?.fix).toContain("tcp://*:5557");
  });

  it("undecodable: garbage, with a sample that is no longer than its bound", async () => {
    const router = await start({});
    router.engines[0]?.faults.garbageNext(1);
    await complete(router, promptOf(1, 1600));
    await current(router);
    const [finding] = router.pod()?.findings ?? [];
    expect(finding?.name).toBe("undecodable");
    const sample = /begins with ([0-9a-f]+)$/.exec(finding?.detail ?? "")?.[1] ?? "";
    expect(sample.length / 2).toBe(SAMPLE_BYTES_MAX);
    expect(router.pod()).toMatchObject({ state: "DEGRADED", reason: "undecodable" });
    router.clock.jump(300_000);
    expect(names(router.pod())).toEqual([]);
  });

  it("identity-mismatch: a topic that names another pod", async () => {
    const router = await start({ topic: `kv@10.9.9.9@${MODEL}` });
    await complete(router, promptOf(1, 64));
    await current(router);
    expect(names(router.pod())).toEqual(["identity-mismatch"]);
  });

  it("are none of a pod without event source: it is approximated from the start", async () => {
    const router = await start({ readFrom: null });
    expect(router.pod()).toMatchObject({ state: "FALLBACK", reason: "no-event-source" });
    await complete(router, promptOf(1, 160));
    const before = predicted(router);
    expect(await complete(router, promptOf(1, 160))).toBe(144);
    expect(predicted(router) - before).toBe(159);
    router.clock.jump(120_000);
    await complete(router, promptOf(1, 160));
    expect(predicted(router) - before).toBe(159);
    expect(router.pod()).toMatchObject({ findings: [] });
  });
});

describe("audit", () => {
  it("leaves a healthy fleet under eviction pressure alone", { timeout: 60_000 }, async () => {
    const router = await start({ gpuBlocks: 96 }, { gpuBlocks: 96 });
    const random = seededRandom(7);
    const worker = async (): Promise<void> => {
      for (let n = 0; n < 100; n += 1) {
        await complete(router, promptOf(1 + Math.floor(random.next() * 12), 320));
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
    await current(router);
    router.clock.jump(2_000);
    router.pods.watch.look();
    const { meter, pods } = router;
    const outcomes = (outcome: string): number =>
      meter.total("kvatlas_audit_samples_total", { outcome });
    expect(meter.total("kvatlas_events_blocks_total", { kind: "removed" })).toBeGreaterThan(500);
    expect(outcomes("exact")).toBeGreaterThan(100);
    expect(meter.total("kvatlas_audit_resyncs_total")).toBe(0);
    for (const { state, audit } of pods.report()) {
      expect(state).toBe("EXACT");
      expect(audit.overRatio).toBeLessThan(0.05);
    }
  });

  /** The router believes what the engine no longer has: its removals were lost. */
  async function drift(router: Router): Promise<void> {
    const { engines, residency } = router;
    const prompts = Array.from({ length: 25 }, (_, n) => promptOf(n + 1, 320));
    for (const prompt of prompts) await complete(router, prompt);
    await current(router);
    const holder = holderOf(engines[0]);
    const records = [...residency.records(holder)].map(([handle, { key }]) => [handle, key]);
    await waitUntil("all is evicted", () => {
      engines[0]?.evictAll();
      return engines[0]?.cachedBlocks().length === 0;
    });
    await current(router);
    const handles = BigUint64Array.from(records, ([handle]) => handle ?? 0n);
    residency.stored(
      holder,
      "gpu",
      handles,
      BigUint64Array.from(records, ([, key]) => key ?? 0n),
    );
    for (const prompt of prompts) expect(await complete(router, prompt)).toBe(0);
    await current(router);
    router.clock.jump(2_000);
  }

  it("resynchronises a pod that has less than it is believed to have, from its replay", async () => {
    const router = await start({ replayPort: 0 });
    await drift(router);
    router.pods.watch.look();
    const { meter, residency, engines, pod } = router;
    expect(meter.total("kvatlas_audit_resyncs_total")).toBe(1);
    const holder = holderOf(engines[0]);
    const truth = new Set(engines[0]?.cachedBlocks().map(({ engineHash }) => engineHash));
    await waitUntil("it is learned anew", () => pod()?.state === "EXACT");
    await current(router);
    const known = [...residency.records(holder)];
    expect(new Set(known.map(([handle]) => handle))).toEqual(truth);
    for (const [, { copies }] of known) expect(copies).toEqual([1, 0, 0, 0]);
    expect(pod()).toMatchObject({ audit: { resyncs: 1, samples: 0 } });
  });

  it("says DEGRADED(resync) where there is no replay, and goes on from there", async () => {
    const router = await start({});
    await drift(router);
    expect(router.pod()).toMatchObject({ state: "DEGRADED", reason: "resync" });
    expect(router.pod()?.ranks[0]?.blocks).toBe(0);
    await complete(router, promptOf(100, 320));
    await current(router);
    expect(router.pod()).toMatchObject({ state: "DEGRADED", reason: "resync" });
    expect(router.pod()?.ranks[0]?.blocks).toBe(20);
    expect(router.meter.total("kvatlas_events_gaps_total")).toBe(0);
  });
});
