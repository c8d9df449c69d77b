/** What the index holds of a prompt, as callers and decisions see it, against the plain definition. */
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { fleetViewOf, type specOf, viewOf } from "../../test/harness/fleet-values.ts";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import type { Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import type { EndpointView } from "../fleet/endpoint-view.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { Residency } from "../indexer/residency.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { engineRules } from "../prompt/engine-rules.ts";
import { PromptReader } from "../prompt/prompt-reader.ts";
import type { MatchResponse__Output } from "../query/gen/kvatlas/v1/MatchResponse.ts";
import { loadQueryPackage } from "../query/grpc-query-definition.ts";
import { startQueryServer } from "../query/grpc-query-server.ts";
import type { IndexQueries } from "../query/index-queries.ts";
import { routerConfigSchema } from "../router/config.ts";
import { decide } from "../router/decide.ts";
import { endpointMatches } from "../router/endpoint-match.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";
import { IndexAnswers } from "./index-answers.ts";
import { PodKnowledge } from "./pod-knowledge.ts";
import { matchPrompt } from "./prompt-match.ts";

const BLOCK = 16;
const DEPTH = 10;
const MODEL = "m";
/** The last endpoint has two ranks. */
const RANKS = [1, 1, 2];
const kvEvents = (ranks: number): NonNullable<ReturnType<typeof specOf>["kvEvents"]> => ({
  ...{ address: "tcp://127.0.0.1:1", replay: null, topic: "", ranks, engine: "vllm" },
});
const endpoints: EndpointView[] = RANKS.map((ranks, number) =>
  viewOf(`10.0.0.${number}:8000`, { spec: { kvEvents: kvEvents(ranks) } }),
);
const view = fleetViewOf(0, endpoints);
const holders: Holder[] = endpoints.flatMap(({ spec }, number) =>
  Array.from({ length: RANKS[number] ?? 1 }, (_, rank) => ({ endpointId: spec.id, rank })),
);
const tokens = Uint32Array.from({ length: DEPTH * BLOCK }, (_, at) => 7 * at + 1);

/** Answers of the newest router state; the server stays. */
let answers: IndexQueries;
let server: Awaited<ReturnType<typeof startQueryServer>>;
let client: ReturnType<ReturnType<typeof loadQueryPackage>["createClient"]>;
beforeAll(async () => {
  const queries: IndexQueries = {
    match: (query) => answers.match(query),
    residency: (key) => answers.residency(key),
    pods: () => answers.pods(),
    stats: () => answers.stats(),
  };
  const ports = { clock: nodeClock, log: silentLog, meter: recordingMeter() };
  server = await startQueryServer("127.0.0.1:0", { ...ports, queries });
  client = loadQueryPackage().createClient(server.address);
});
afterAll(async () => {
  client.close();
  await server.stop();
});

const ask = (): Promise<MatchResponse__Output> =>
  new Promise((resolve, reject) =>
    client.Match({ tokens: Buffer.from(tokens.slice().buffer) }, (error, answer) =>
      answer === undefined ? reject(error) : resolve(answer),
    ),
  );

type Entry = { readonly holder: number; readonly tier: Tier; readonly depth: number };

/** Leading blocks that pass. */
function leading(test: (depth: number) => boolean): number {
  let depth = 0;
  while (depth < DEPTH && test(depth)) depth += 1;
  return depth;
}

it("is exact with blocks missing anywhere, by tier, with shared tiers, and anywhere", async () => {
  const hasher = await createBlockHasher(0);
  const parent = hasher.rootKey({ model: MODEL, lora: null, blockSizeTokens: BLOCK });
  const keys = hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  // One index for all histories: it is emptied after each.
  const index = new HotIndex(10_000);
  const meter = recordingMeter();
  const prompt = new PromptReader({
    ...{
      tokensMax: 1_000_000,
      model: MODEL,
      rules: engineRules({ engine: "vllm", engineVersion: "0.33.0" }),
      hasher,
      tokenizer: null,
      meter,
    },
  });
  const runArb = fc.record({
    holder: fc.nat({ max: holders.length - 1 }),
    tier: fc.constantFrom("gpu" as const, ...TIERS),
    from: fc.nat({ max: 4 }),
    length: fc.nat({ max: DEPTH }),
    hole: fc.option(fc.nat({ max: DEPTH - 1 })),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(runArb, { maxLength: 14 }), async (runs) => {
      const held = new Map<string, Entry>();
      for (const { holder, tier, from, length, hole } of runs) {
        for (let depth = from; depth < Math.min(DEPTH, from + length); depth += 1) {
          if (depth !== hole) held.set(`${holder} ${tier} ${depth}`, { holder, tier, depth });
        }
      }
      const residency = new Residency({ index, entriesMax: 1_000_000 });
      for (const [number, holder] of holders.entries()) {
        residency.setCursor(holder, {
          ...{ state: "EXACT", reason: null, epoch: 1, seq: 1, engineMs: 1 },
          ...{ blockSizesTokens: [BLOCK], model: MODEL, ignoredGroups: [] },
        });
        for (const { tier, depth } of [...held.values()].filter((each) => each.holder === number)) {
          const handles = BigUint64Array.of(BigInt(depth + 1));
          residency.stored(holder, tier, handles, keys.slice(depth, depth + 1));
        }
      }
      const events = { heardMsOf: (): number => 0 };
      const knowledge = new PodKnowledge({ holders: residency, events, assumedLifeMs: 1 });
      const deps = { index, holders: residency, prompt, knowledge, meter };
      answers = new IndexAnswers({ ...deps, fleet: { view: () => view }, clock: nodeClock });

      // The definition.
      const has = (holder: number, tier: Tier, depth: number): boolean =>
        held.has(`${holder} ${tier} ${depth}`);
      const any = (holder: number, depth: number): boolean =>
        TIERS.some((tier) => has(holder, tier, depth));
      const isShared = (depth: number): boolean =>
        holders.some((_, holder) => has(holder, "shared", depth));
      const ofHolder = holders.map((_, holder) => {
        const blocks = leading((depth) => any(holder, depth));
        const byTier = { gpu: 0, cpu: 0, nvme: 0, shared: 0 };
        for (let depth = 0; depth < blocks; depth += 1) {
          const fastest = TIERS.find((tier) => has(holder, tier, depth));
          if (fastest !== undefined) byTier[fastest] += BLOCK;
        }
        const gpu = BLOCK * leading((depth) => has(holder, "gpu", depth));
        const reachable = BLOCK * leading((depth) => any(holder, depth) || isShared(depth));
        return { blocks, byTier, gpu, reachable };
      });
      const ranksOf = (number: number): typeof ofHolder =>
        ofHolder.filter((_, at) => holders[at]?.endpointId === endpoints[number]?.spec.id);

      const answer = await ask();
      const matches = endpointMatches(
        view,
        matchPrompt(deps, prompt.keyed({ tokens, lora: null, cacheSalt: null }), {
          endpoints,
          known: knowledge.known(endpoints, 0),
          nowMs: 0,
        }).sized,
      );
      const decision = decide({
        ...{ fleet: view, subset: null, excluded: new Set(), states: new Map(), matches },
        ...{ inputTokens: tokens.length + 1, popularPrefix: null, prefixWork: new Map() },
        ...{ config: routerConfigSchema.parse({}), random: 0, turn: 1 },
      });
      const candidates = decision.kind === "routed" ? decision.candidates.all() : [];
      let deepest = 0;
      let farthest = 0;
      for (const [number, { spec }] of endpoints.entries()) {
        const ranks = ranksOf(number);
        const least = Math.min(...ranks.map(({ blocks }) => blocks));
        const told = answer.endpoints?.find(({ endpoint }) => endpoint === spec.id);
        const decided = candidates.find(({ endpointId }) => endpointId === spec.id)?.match;
        if (least === 0) {
          expect([told, decided?.heldTokens ?? 0]).toEqual([undefined, 0]);
          continue;
        }
        // Ranks of one depth may lie in different tiers: either of them is told.
        const shallowest = ranks.filter(({ blocks }) => blocks === least);
        const {
          gpu_tokens: gpu,
          cpu_tokens: cpu,
          nvme_tokens: nvme,
          shared_tokens: shared,
        } = {
          ...{ gpu_tokens: 0, cpu_tokens: 0, nvme_tokens: 0, shared_tokens: 0 },
          ...told,
        };
        const byTier = { gpu, cpu, nvme, shared };
        expect(shallowest.map((each) => ({ byTier: each.byTier, gpu: each.gpu }))).toContainEqual({
          ...{ byTier, gpu: told?.gpu_prefix_tokens },
        });
        const reachable = Math.min(...ranks.map((each) => each.reachable));
        expect(told).toMatchObject({
          ...{ prefix_tokens: BLOCK * least, reachable_tokens: reachable },
        });
        expect(decided).toEqual({
          ...{ gpuTokens: told?.gpu_prefix_tokens, inflightTokens: 0 },
          ...{ heldTokens: BLOCK * least, tokensByTier: byTier },
        });
        deepest = Math.max(deepest, BLOCK * least);
        farthest = Math.max(farthest, reachable);
      }
      expect(decision).toMatchObject({ kind: "routed", possibleTokens: deepest });
      expect(answer.best?.reachable_tokens ?? 0).toBe(farthest);
      const anywhere = leading((depth) => holders.some((_, holder) => any(holder, depth)));
      expect(answer).toMatchObject({
        ...{ prompt_tokens: DEPTH * BLOCK, available_tokens: BLOCK * anywhere },
        shared_prefix_tokens: BLOCK * leading(isShared),
      });
      for (const holder of holders) residency.forget(holder);
    }),
    { numRuns: 150 },
  );
});
