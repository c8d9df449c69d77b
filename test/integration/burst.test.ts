/**
 * A hundred engines with data-parallel ranks that speak at once to a router that was just started again: it
 * goes on deciding, and ends with what their caches hold. Prints how long decisions took meanwhile.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { LmdbStore } from "../../src/indexer/lmdb-store.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { ExtProcClient } from "../../src/lab/grpc-ext-proc-client.ts";
import { MemoryIndex } from "../harness/memory-index.ts";
import { restoreFrom } from "../harness/plain-store.ts";
import { RouterProcess } from "../harness/router-process.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const ENGINES = 100;
const RANKS = 4;
/** Of each engine, in each round: several for each rank. */
const PROMPTS = 8;
const TOKENS = 256;
const DECISIONS = 300;
const WAIT_MS = 60_000;
const folder = mkdtempSync(join(tmpdir(), "kvatlas-burst-"));
const engines: LabEngine[] = [];
let router: RouterProcess;

beforeAll(async () => {
  for (let n = 0; n < ENGINES; n += 1) {
    const options = { timeScale: 0, gpuBlocks: 256, ranks: RANKS, replayPort: 0 };
    const hashSeed = `engine-${n}`;
    engines.push(await startLabEngine({ ...options, hashSeed }, { clock: nodeClock }));
  }
}, WAIT_MS);
afterAll(async () => {
  await router?.stop();
  await Promise.all(engines.map((engine) => engine.stop()));
  rmSync(folder, { recursive: true, force: true });
}, WAIT_MS);

/** Every engine answers its prompts of this round, all of them at the same time. */
async function allSpeak(round: number): Promise<void> {
  const speak = async (engine: LabEngine, seed: number): Promise<void> => {
    const prompt = promptOf(seed, TOKENS);
    const body = JSON.stringify({ model: "lab-8b", prompt, max_tokens: 1 });
    const answer = await fetch(`http://${engine.address}/v1/completions`, { method: "POST", body });
    expect(answer.status).toBe(200);
    await answer.arrayBuffer();
  };
  await Promise.all(
    engines.flatMap((engine, n) =>
      Array.from({ length: PROMPTS }, (_, at) =>
        speak(engine, (round * ENGINES + n) * PROMPTS + at),
      ),
    ),
  );
}

interface KnownPod {
  readonly endpoint: string;
  readonly ranks: readonly {
    readonly rank: number;
    readonly state: string;
    readonly seq: number;
  }[];
}

/** Every rank is EXACT and has its engine's last message. */
async function isAllKnown(): Promise<boolean> {
  const answer = await fetch(`http://${router.adminAddress}/pods`);
  const { pods } = (await answer.json()) as { pods: KnownPod[] };
  const known = new Map(pods.map(({ endpoint, ranks }) => [endpoint, ranks]));
  return engines.every((engine) => {
    const ranks = known.get(engine.address) ?? [];
    const isKnown = ({ rank, state, seq }: KnownPod["ranks"][number]): boolean =>
      state === "EXACT" && seq === engine.publishedSeq(rank);
    return ranks.length === RANKS && ranks.every(isKnown);
  });
}

/** Requests one after the other; each took so many ms from its first byte to its answer's headers. */
async function decide(): Promise<number[]> {
  const client = new ExtProcClient(router.extProcAddress);
  const tookMs: number[] = [];
  for (let n = 0; n < DECISIONS; n += 1) {
    const prompt = promptOf(n, 2 * TOKENS);
    const body = Buffer.from(JSON.stringify({ model: "lab-8b", prompt, max_tokens: 1 }));
    const startMs = nodeClock.nowMs();
    const request = { method: "POST", path: "/v1/completions", headers: {}, body };
    const response = await client.send(request);
    tookMs.push(nodeClock.nowMs() - startMs);
    expect(response.status).toBe(200);
    await response.body.resume().toArray();
  }
  client.close();
  return tookMs.sort((a, b) => a - b);
}

/** Upper end of the bucket that this share of the router's decisions is below, ms. */
async function decisionMs(share: number): Promise<number> {
  const text = await (await fetch(`http://${router.adminAddress}/metrics`)).text();
  const buckets = [...text.matchAll(/^kvatlas_decision_seconds_bucket\{le="(.+)"\} (\d+)$/gm)];
  const all = Number(buckets.at(-1)?.[2] ?? 0);
  return 1000 * Number(buckets.find(([, , count]) => Number(count) >= share * all)?.[1]);
}

it(`${ENGINES} engines of ${RANKS} ranks speak at once after a restart of the router`, {
  timeout: 2 * WAIT_MS,
}, async () => {
  await allSpeak(0);
  const endpoints = engines.map(({ address, kvEventsAddress, replayAddress }, n) => ({
    ...{ name: `pod-${n}`, address },
    kvEvents: { address: kvEventsAddress, replay: replayAddress ?? "", ranks: RANKS },
  }));
  // The budget that no decision is to be over.
  const config = { extProc: { deadlineMs: 2000 } };
  router = await RouterProcess.start({ folder, endpoints, config });
  await waitUntil("all is known", isAllKnown, WAIT_MS);
  await router.killHard();
  // Said to nobody: asked for when the router is back, by 400 sockets at once.
  await allSpeak(1);
  await router.restart();
  const [tookMs] = await Promise.all([decide(), allSpeak(2), allSpeak(3)]);
  const at = (share: number): string => (tookMs[Math.floor(share * tookMs.length)] ?? 0).toFixed(1);
  process.stdout.write(
    `${DECISIONS} decisions meanwhile: 99 % of them within ${await decisionMs(0.99)} ms in the router; ` +
      `with the engine's answer p50 ${at(0.5)}, p99 ${at(0.99)} ms\n`,
  );
  await waitUntil("all is known again", isAllKnown, WAIT_MS);
  expect(await router.metric("kvatlas_decisions_total", 'outcome="deadline"')).toBe(0);
  await router.stop();

  const store = new LmdbStore(join(folder, "store"));
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1_000_000 });
  restoreFrom(store, residency);
  for (const engine of engines) {
    for (let rank = 0; rank < RANKS; rank += 1) {
      const holder: Holder = { endpointId: endpointId(engine.address), rank };
      const held = [...residency.records(holder)].map(([handle]) => handle.toString(16));
      const truth = engine.cachedBlocks(rank).map(({ engineHash }) => engineHash.toString(16));
      expect(held.sort()).toEqual([...new Set(truth)].sort());
    }
  }
  await store.close();
});
