/** What is measured: the steps of both paths, each beside a naive twin where there is one. */
import { encode } from "@msgpack/msgpack";
import xxhash from "xxhash-wasm";
import { blockKey, endpointId, type Holder } from "../src/core/ids.ts";
import { silentLog } from "../src/core/log.ts";
import { silentMeter } from "../src/core/meter.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { Applier } from "../src/events/applier.ts";
import { HolderRelay } from "../src/events/holder-relay.ts";
import { decodeVllmBatch } from "../src/events/vllm-decoder.ts";
import type { EndpointView } from "../src/fleet/fleet.ts";
import { IDLE_LOAD } from "../src/fleet/ledger.ts";
import { HotIndex } from "../src/indexer/hot-index.ts";
import { Residency } from "../src/indexer/residency.ts";
import { type BlockHasher, createBlockHasher } from "../src/keys/block-hasher.ts";
import { routerConfigSchema } from "../src/router/config.ts";
import { decide } from "../src/router/decide.ts";
import type { BenchCase } from "./harness.ts";

const BLOCK = 16;
/** Engines send their time as a float. */
const TS = 0.5;
const NAMESPACE = { model: "bench", lora: null, blockSizeTokens: BLOCK };

export async function benchCases(): Promise<BenchCase[]> {
  const hasher = await createBlockHasher(0);
  return [
    ...(await hashCases(hasher)),
    ...[64, 512, 2048, 8192].flatMap((blocks) => matchCases(hasher, blocks)),
    ...ingestCases(hasher),
    ...[64, 1024].map(decideCase),
  ];
}

function tokensOf(blocks: number, seed = 1): Uint32Array {
  return Uint32Array.from({ length: blocks * BLOCK }, (_, i) => (i * 2_654_435_761 + seed) >>> 15);
}

async function hashCases(hasher: BlockHasher): Promise<BenchCase[]> {
  const tokens = tokensOf(2048);
  const parent = hasher.rootKey(NAMESPACE);
  const { create64 } = await xxhash();
  const naive = (): void => {
    let key: bigint = parent;
    for (let start = 0; start < tokens.length; start += BLOCK) {
      const bytes = new Uint8Array(BLOCK * 4 + 8);
      bytes.set(new Uint8Array(tokens.slice(start, start + BLOCK).buffer));
      new DataView(bytes.buffer).setBigUint64(BLOCK * 4, key, true);
      key = create64(0n).update(bytes).digest();
    }
  };
  const row = { unit: "ns/block", blocks: 2048 } as const;
  const run = (): void => void hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  return [
    { ...row, name: "naive.hash.chain.2048", run: naive },
    { ...row, name: "hash.chain.2048", run, reference: "naive.hash.chain.2048" },
  ];
}

const holderOf = (number: number): Holder => ({
  endpointId: endpointId(`10.0.${number >> 8}.${number & 255}:8000`),
  rank: 0,
});

/** 64 endpoints; 8 of them hold the prompt's first 1/8, 2/8, ... 8/8. */
function matchCases(hasher: BlockHasher, blocks: number): BenchCase[] {
  const tokens = tokensOf(blocks);
  const parent = hasher.rootKey(NAMESPACE);
  const keys = hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  const index = new HotIndex();
  const sets = Array.from({ length: 64 }, () => new Set<bigint>());
  for (let holder = 0; holder < 8; holder += 1) {
    for (const key of keys.subarray(0, (blocks * (holder + 1)) / 8)) {
      index.store(holderOf(holder * 8), "gpu", blockKey(key));
      sets[holder * 8]?.add(key);
    }
  }
  const naive = (): void => {
    for (const held of sets) {
      let depth = 0;
      while (depth < keys.length && held.has(keys[depth] ?? 0n)) depth += 1;
    }
  };
  const row = { unit: "us", blocks } as const;
  return [
    { ...row, name: `naive.match.keys.${blocks}x64`, run: naive },
    {
      ...row,
      name: `match.keys.${blocks}x64`,
      run: (): void => void index.match(keys),
      reference: `naive.match.keys.${blocks}x64`,
    },
    {
      ...row,
      name: `match.tokens.${blocks}x64`,
      run: (): void =>
        void index.match(hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK })),
    },
  ];
}

/** Wire bytes to queryable entry: decode, key, handle map, copies, index. One thread, no store. */
function ingestCases(hasher: BlockHasher): BenchCase[] {
  const holder = holderOf(0);
  const blocks = 2048;
  const path = (): ((payload: Uint8Array) => void) => {
    const relay = new HolderRelay({ holder, model: "bench", hasher, canReplay: false });
    const residency = new Residency({ index: new HotIndex(), entriesMax: 10_000_000 });
    const ports = { clock: nodeClock, log: silentLog, meter: silentMeter };
    const applier = new Applier({ ...ports, residency });
    let seq = 0;
    return (payload) => {
      const decoded = decodeVllmBatch(payload);
      if (!decoded.ok) throw new Error(decoded.detail);
      const { batches } = relay.live({ seq, batch: decoded.value });
      seq += 1;
      for (const batch of batches) applier.accept(batch);
    };
  };
  const stores = (blocksPerEvent: number): Uint8Array[] => {
    const tokens = tokensOf(blocks);
    return Array.from({ length: blocks / blocksPerEvent }, (_, event) => {
      const first = event * blocksPerEvent;
      const part = tokens.subarray(first * BLOCK, (first + blocksPerEvent) * BLOCK);
      const handles = Array.from({ length: blocksPerEvent }, (_, i) => wide(first + i));
      const parent = first === 0 ? null : wide(first - 1);
      const stored = ["BlockStored", handles, parent, [...part], BLOCK, null, "GPU"];
      return encode([TS, [stored], 0], { useBigInt64: true });
    });
  };
  const removes = Array.from({ length: blocks }, (_, block) =>
    encode([TS, [["BlockRemoved", [wide(block)], "GPU"]], 0], { useBigInt64: true }),
  );
  const feed = (blocksPerEvent: number): (() => void) => {
    const messages = stores(blocksPerEvent);
    return () => {
      const accept = path();
      for (const message of messages) accept(message);
    };
  };
  const row = { unit: "ns/block", blocks } as const;
  return [
    { ...row, name: "ingest.wire.32", run: feed(32) },
    { ...row, name: "ingest.wire.1", run: feed(1) },
    {
      ...row,
      name: "ingest.store-and-remove.1",
      run: (): void => {
        const accept = path();
        for (const message of stores(1)) accept(message);
        for (const message of removes) accept(message);
      },
    },
  ];
}

/** A handle as engines send them: beyond 2^53. */
function wide(block: number): bigint {
  return 0xabcd_0000_0000_0000n + BigInt(block);
}

function decideCase(endpoints: number): BenchCase {
  const views = Array.from({ length: endpoints }, (_, i): EndpointView => {
    const id = holderOf(i).endpointId;
    const places = { kvEvents: null, metricsUrl: null, isDraining: false };
    return {
      spec: { id, name: `pod-${i}`, pool: "default", model: "bench", ...places },
      isReady: true,
      readyReason: "ready",
      signals: {
        value: { waiting: 1, running: 8, kvUsage: 0.5, blockSizeTokens: 16, gpuBlocks: 25_000 },
        atMs: 0,
      },
      load: { ...IDLE_LOAD, requests: 1, decoding: 1, contextTokens: 4000 },
    };
  });
  const matches = new Map(
    views.slice(0, 8).map(({ spec }, i) => {
      const tokens = 512 * (i + 1);
      return [
        spec.id,
        { gpuTokens: tokens, tokensByTier: { gpu: tokens, cpu: 0, nvme: 0, shared: 0 } },
      ];
    }),
  );
  const input = {
    fleet: { nowMs: 500, endpoints: views },
    subset: null,
    matches,
    inputTokens: 8192,
    popularPrefix: null,
    prefixWork: new Map(),
    config: routerConfigSchema.parse({}),
    random: 0.5,
    turn: 0,
  };
  return {
    name: `decide.${endpoints}`,
    unit: "us",
    blocks: 1,
    run: (): void => void decide(input),
  };
}
