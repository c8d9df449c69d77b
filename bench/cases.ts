/** What is measured: the steps of both paths, each beside a naive twin where there is one. */
import { type BlockHasher, createBlockHasher } from "../src/keys/block-hasher.ts";
import { routerConfigSchema } from "../src/router/config.ts";
import { type DecisionInput, decide } from "../src/router/decide.ts";
import type { EndpointMatch } from "../src/router/endpoint-match.ts";
import { fleetViewOf, viewOf } from "../test/harness/fleet-values.ts";
import type { BenchCase, ValueCase } from "./harness.ts";
import { ingestCases } from "./ingest-cases.ts";
import { jetstreamCases } from "./jetstream-cases.ts";
import { duringIngestCase, matchCases } from "./match-cases.ts";
import { naiveHasher } from "./naive.ts";
import { promptCases } from "./prompt-cases.ts";
import { storeCases } from "./store-cases.ts";
import { memoryCases } from "./value-cases.ts";
import { BLOCK, holderOf, NAMESPACE, tokensOf } from "./workload.ts";

export async function benchCases(): Promise<(BenchCase | ValueCase)[]> {
  const hasher = await createBlockHasher(0);
  return [
    ...(await hashCases(hasher)),
    ...(await matchCases(hasher)),
    duringIngestCase(hasher),
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
  const naive = await naiveHasher();
  const row = { unit: "ns/block", blocks: 2048 } as const;
  const run = (): void => void hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  return [
    { ...row, name: "naive.hash.chain.2048", run: (): void => void naive(parent, tokens) },
    { ...row, name: "hash.chain.2048", run, reference: "naive.hash.chain.2048" },
  ];
}

function decideCase(endpoints: number): BenchCase {
  const views = Array.from({ length: endpoints }, (_, i) =>
    viewOf(holderOf(i).endpointId, {
      poolTokens: 400_000,
      signals: {
        value: { waiting: 1, running: 8, kvUsage: 0.5, blockSizeTokens: 16, gpuBlocks: 25_000 },
        atMs: 0,
      },
      load: { requests: 1, decoding: 1, contextTokens: 4000, blockTokens: 4000 },
    }),
  );
  const matches = new Map(
    views.slice(0, 8).map(({ spec }, i) => {
      const tokens = 512 * (i + 1);
      const match: EndpointMatch = {
        ...{ gpuTokens: tokens, inflightTokens: 0, heldTokens: tokens },
        tokensByTier: { gpu: tokens, cpu: 0, nvme: 0, shared: 0 },
      };
      return [spec.id, match];
    }),
  );
  const input: DecisionInput = {
    fleet: fleetViewOf(500, views),
    subset: null,
    excluded: new Set(),
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
