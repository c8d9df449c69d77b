/** What is measured: the steps of both paths, each beside a naive twin where there is one. */
import xxhash from "xxhash-wasm";
import { blockKey } from "../src/core/ids.ts";
import type { EndpointView } from "../src/fleet/fleet.ts";
import { IDLE_LOAD } from "../src/fleet/ledger.ts";
import { HotIndex } from "../src/indexer/hot-index.ts";
import { type BlockHasher, createBlockHasher } from "../src/keys/block-hasher.ts";
import { routerConfigSchema } from "../src/router/config.ts";
import { decide } from "../src/router/decide.ts";
import type { BenchCase, ValueCase } from "./harness.ts";
import { ingestCases } from "./ingest-cases.ts";
import { jetstreamCases } from "./jetstream-cases.ts";
import { promptCases } from "./prompt-cases.ts";
import { storeCases } from "./store-cases.ts";
import { memoryCases } from "./value-cases.ts";
import { BLOCK, holderOf, NAMESPACE, tokensOf } from "./workload.ts";

export async function benchCases(): Promise<(BenchCase | ValueCase)[]> {
  const hasher = await createBlockHasher(0);
  return [
    ...(await hashCases(hasher)),
    ...[64, 512, 2048, 8192].flatMap((blocks) => matchCases(hasher, { blocks, endpoints: 64 })),
    ...matchCases(hasher, { blocks: 2048, endpoints: 1024 }),
    ...ingestCases(hasher),
    ...storeCases(hasher),
    ...jetstreamCases(hasher),
    ...memoryCases(),
    ...[64, 1024].map(decideCase),
    ...promptCases(hasher),
  ];
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

/** 8 of the endpoints hold the prompt's first 1/8, 2/8, ... 8/8. */
function matchCases(
  hasher: BlockHasher,
  { blocks, endpoints }: { readonly blocks: number; readonly endpoints: number },
): BenchCase[] {
  const tokens = tokensOf(blocks);
  const parent = hasher.rootKey(NAMESPACE);
  const keys = hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  const index = new HotIndex();
  const sets = Array.from({ length: endpoints }, () => new Set<bigint>());
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
    { ...row, name: `naive.match.keys.${blocks}x${endpoints}`, run: naive },
    {
      ...row,
      name: `match.keys.${blocks}x${endpoints}`,
      run: (): void => void index.match(keys),
      reference: `naive.match.keys.${blocks}x${endpoints}`,
    },
    {
      ...row,
      name: `match.tokens.${blocks}x${endpoints}`,
      run: (): void =>
        void index.match(hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK })),
    },
  ];
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
    states: new Map(),
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
