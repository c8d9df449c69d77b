/**
 * The independent truth: after a random workload with evictions on 8 engines, what the index holds
 * equals what the engines' own block pools hold, block for block, copy for copy.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import xxhash from "xxhash-wasm";
import { startWritePath } from "../../src/app/write-path.ts";
import { configSchema } from "../../src/config/schema.ts";
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { silentMeter } from "../../src/core/meter.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type Random, seededRandom } from "../../src/core/random.ts";
import { LmdbStore } from "../../src/indexer/lmdb-store.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { type CachedBlock, type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { startNats } from "../../src/lab/process-nats.ts";
import { requireBinary } from "../harness/binaries.ts";
import { MemoryIndex } from "../harness/memory-index.ts";
import { flushTo, restoreFrom } from "../harness/plain-store.ts";
import { waitUntil } from "../harness/wait-until.ts";

const ENGINES = 8;
const REQUESTS = 400;
const BLOCK = 16;
const MODEL = "lab-8b";
const nats = await requireBinary("nats-server");
const { h64Raw } = await xxhash();

/** The key of a cached block by the definition, from its whole prefix, written out here again. */
function keyByDefinition({ prefixTokens, loraName, cacheSalt }: CachedBlock): bigint {
  const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  let key = h64Raw(text(["kvatlas-key/1", MODEL, loraName, BLOCK]), 0n);
  if (cacheSalt !== null) key = h64Raw(text([cacheSalt]), key);
  for (let start = 0; start < prefixTokens.length; start += BLOCK) {
    const bytes = new DataView(new ArrayBuffer(BLOCK * 4 + 8));
    for (let i = 0; i < BLOCK; i += 1) bytes.setUint32(i * 4, prefixTokens[start + i] ?? 0, true);
    bytes.setBigUint64(BLOCK * 4, key, true);
    key = h64Raw(new Uint8Array(bytes.buffer), 0n);
  }
  return key;
}

/** "key x copies" of everything an engine holds, sorted. */
function truthOf(engine: LabEngine): string[] {
  return counted(engine.cachedBlocks().map(keyByDefinition));
}

function heldBy(residency: Residency, holder: Holder): string[] {
  const keys: bigint[] = [];
  for (const [, { key, copies }] of residency.records(holder)) {
    for (let copy = 0; copy < (copies[0] ?? 0); copy += 1) keys.push(key);
  }
  return counted(keys);
}

function counted(keys: readonly bigint[]): string[] {
  const copies = new Map<bigint, number>();
  for (const key of keys) copies.set(key, (copies.get(key) ?? 0) + 1);
  return [...copies].map(([key, count]) => `${key.toString(16)} x ${count}`).sort();
}

/** Shared heads, continued conversations, equal prompts at once, adapters and salts. */
async function runWorkload(engines: readonly LabEngine[], random: Random): Promise<void> {
  const pick = <Item>(items: readonly Item[]): Item | undefined =>
    items[Math.floor(random.next() * items.length)];
  const tokens = (count: number): number[] =>
    Array.from({ length: count }, () => Math.floor(random.next() * 120_000));
  const heads = Array.from({ length: 6 }, () => tokens(40 + Math.floor(random.next() * 200)));
  const said: number[][] = [...heads];
  const send = async (): Promise<void> => {
    const prompt = [...(pick(said) ?? []), ...tokens(Math.floor(random.next() * 150))];
    said.push(prompt);
    const body = {
      model: random.next() < 0.2 ? "adapter" : MODEL,
      prompt,
      max_tokens: 1 + Math.floor(random.next() * 40),
      ...(random.next() < 0.2 ? { cache_salt: pick(["a", "b"]) } : {}),
    };
    const requests = random.next() < 0.2 ? 2 : 1;
    const engine = pick(engines);
    await Promise.all(
      Array.from({ length: requests }, async () => {
        const answer = await fetch(`http://${engine?.address}/v1/completions`, {
          method: "POST",
          body: JSON.stringify(body),
        });
        expect(answer.status, await answer.text()).toBe(200);
      }),
    );
    if (random.next() < 0.02) engine?.evictAll();
  };
  for (let sent = 0; sent < REQUESTS; sent += 16) {
    await Promise.all(Array.from({ length: 16 }, send));
  }
}

describe.each(["direct", "nats"] as const)("the index, fed %s", (transport) => {
  it.skipIf(transport === "nats" && nats.isMissing)(
    `equals the engines' own caches block for block${nats.note}`,
    { timeout: 60_000 },
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "kvatlas-test-"));
      const engines = await Promise.all(
        Array.from({ length: ENGINES }, (_, i) =>
          startLabEngine(
            {
              timeScale: 0,
              gpuBlocks: 200,
              loraNames: ["adapter"],
              hashSeed: `engine-${i}`,
              encoding: i % 2 === 0 ? "map" : "array",
              hashForm: i % 3 === 0 ? "bytes" : "u64",
            },
            { clock: nodeClock },
          ),
        ),
      );
      const server =
        transport === "nats"
          ? await startNats({ binary: nats.path, storeFolder: join(folder, "n"), clock: nodeClock })
          : null;
      const config = configSchema.parse({
        model: MODEL,
        events: { transport, ...(server === null ? {} : { nats: { servers: [server.address] } }) },
      });
      const index = new MemoryIndex();
      const residency = new Residency({ index, entriesMax: 1_000_000 });
      const ports = { clock: nodeClock, log: silentLog, meter: silentMeter };
      const hasher = await createBlockHasher(0);
      const writePath = startWritePath(config, { ...ports, residency, hasher });
      const holders = engines.map(({ address }) => ({ endpointId: endpointId(address), rank: 0 }));
      writePath.ingest.reconcile(
        engines.map(({ kvEventsAddress }, i) => ({
          holder: holders[i] as Holder,
          model: MODEL,
          address: kvEventsAddress,
          replayAddress: null,
          topic: "",
        })),
      );
      try {
        await waitUntil("all are subscribed", () => engines.every((e) => e.subscriptions() > 0));
        await runWorkload(engines, seededRandom(transport === "nats" ? 1 : 2));
        await waitUntil("all events are applied", () =>
          engines.every(
            (e, i) => residency.cursorOf(holders[i] as Holder)?.seq === e.publishedSeq(),
          ),
        );
        let blocks = 0;
        for (const [i, engine] of engines.entries()) {
          const holder = holders[i] as Holder;
          const truth = truthOf(engine);
          blocks += truth.length;
          expect(heldBy(residency, holder)).toEqual(truth);
          expect(residency.cursorOf(holder)).toMatchObject({ state: "EXACT", reason: null });
          for (const block of engine.cachedBlocks()) {
            const residencyOf = index.residency(keyByDefinition(block) as never);
            expect(residencyOf).toContainEqual({ holder, tier: "gpu" });
          }
        }
        expect(blocks).toBeGreaterThan(ENGINES * 100);

        const written = new LmdbStore(join(folder, "store"));
        flushTo(written, residency);
        await written.close();
        const store = new LmdbStore(join(folder, "store"));
        const restored = new Residency({ index: new MemoryIndex(), entriesMax: 1_000_000 });
        restoreFrom(store, restored);
        for (const [i, engine] of engines.entries()) {
          expect(heldBy(restored, holders[i] as Holder)).toEqual(truthOf(engine));
        }
        await store.close();
      } finally {
        await writePath.stop();
        await server?.stop();
        await Promise.all(engines.map((engine) => engine.stop()));
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );
});
