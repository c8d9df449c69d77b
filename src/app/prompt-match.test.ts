/** What a prompt matches where engines change the size of blocks within a chain, against plain paths. */
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import { fleetViewOf, viewOf } from "../../test/harness/fleet-values.ts";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { engineKey, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { Applier } from "../events/applier.ts";
import { HolderRelay } from "../events/holder-relay.ts";
import type { BlockStored, KvEvent } from "../events/kv-event.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { Residency } from "../indexer/residency.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { engineRules } from "../prompt/engine-rules.ts";
import { PromptReader } from "../prompt/prompt-reader.ts";
import { type EndpointMatch, endpointMatches } from "../router/endpoint-match.ts";
import { PodKnowledge } from "./pod-knowledge.ts";
import { matchPrompt, type PromptMatch } from "./prompt-match.ts";

const MODEL = "m";
const TOKENS = 14;
/** The last endpoint has two ranks. */
const RANKS = [1, 1, 2];
const endpoints = RANKS.map((ranks, number) => {
  const address = "tcp://127.0.0.1:1";
  const kvEvents = { engine: "vllm", address, ranks, replay: null, topic: "" } as const;
  return viewOf(`10.0.0.${number}:8000`, { spec: { kvEvents } });
});
const holders: Holder[] = endpoints.flatMap(({ spec }, number) =>
  Array.from({ length: RANKS[number] ?? 1 }, (_, rank) => ({ endpointId: spec.id, rank })),
);

let hasher: BlockHasher;
beforeAll(async () => {
  hasher = await createBlockHasher(0);
});

/** A prompt's beginning as blocks: their sizes in order. */
type Path = readonly number[];
const lengthOf = (path: Path): number => path.reduce((sum, size) => sum + size, 0);
const promptTokens = (length: number): Uint32Array =>
  Uint32Array.from({ length }, (_, at) => 7 * at + 1);

class Router {
  readonly index = new HotIndex(20_000);
  readonly residency = new Residency({ index: this.index, entriesMax: 1_000_000 });
  readonly meter = recordingMeter();
  readonly #applier = new Applier({
    ...{ residency: this.residency, clock: nodeClock, log: silentLog, meter: this.meter },
  });
  readonly #relays = holders.map(
    (holder) => new HolderRelay({ holder, model: MODEL, hasher, canReplay: false }),
  );
  readonly #handles = new Map<string, bigint>();
  readonly #seqs = holders.map(() => 0);

  say(holder: number, events: readonly KvEvent[]): void {
    const seq = this.#seqs[holder] ?? 0;
    this.#seqs[holder] = seq + 1;
    const batch = { ts: 1 + seq, rank: null, events };
    for (const each of this.#relays[holder]?.live({ seq, batch }).batches ?? []) {
      this.#applier.accept(each);
    }
  }

  /** The last block of a path; where `tokens` is the whole prompt's. */
  stored(path: Path, tokens: Uint32Array, salt: string | null): BlockStored {
    const size = path.at(-1) ?? 1;
    const before = path.slice(0, -1);
    const start = lengthOf(before);
    return {
      type: "stored",
      handles: BigUint64Array.of(this.#handleOf(path)),
      parent: before.length === 0 ? null : engineKey(this.#handleOf(before)),
      tokens: tokens.subarray(start, start + size),
      blockSizeTokens: size,
      medium: "GPU",
      extraKeys: [before.length === 0 && salt !== null ? [salt] : null],
      ...{ loraName: null, loraId: null, group: null, specKind: null },
    };
  }

  offloaded(path: Path): BlockStored {
    const handles = BigUint64Array.of(this.#handleOf(path));
    const tokens = new Uint32Array(0);
    return {
      ...{ type: "stored", handles, parent: null, tokens, blockSizeTokens: 0, medium: "CPU" },
      ...{ extraKeys: null, loraName: null, loraId: null, group: null, specKind: null },
    };
  }

  evicted(path: Path): KvEvent {
    const handles = BigUint64Array.of(this.#handleOf(path));
    return { type: "removed", handles, medium: "GPU", group: null };
  }

  match(tokens: Uint32Array, cacheSalt: string | null): PromptMatch {
    const { index, residency, meter } = this;
    const events = { heardMsOf: (): number => 0 };
    const knowledge = new PodKnowledge({ holders: residency, events, assumedLifeMs: 1 });
    const reader = {
      tokensMax: 1_000_000,
      model: MODEL,
      rules: engineRules({ engine: "vllm", engineVersion: "0.33.0" }),
      hasher,
      tokenizer: null,
      meter,
    };
    const prompt = new PromptReader(reader);
    const known = knowledge.known(endpoints, 0);
    const keyed = prompt.keyed({ tokens, lora: null, cacheSalt });
    const input = { endpoints, known, nowMs: 0 };
    return matchPrompt({ index, holders: residency, knowledge, meter }, keyed, input);
  }

  #handleOf(path: Path): bigint {
    const name = path.join();
    const known =
      this.#handles.get(name) ?? BigInt(this.#handles.size + 1) * 0x9e37_79b9_7f4a_7c15n;
    this.#handles.set(name, BigInt.asUintN(64, known));
    return BigInt.asUintN(64, known);
  }
}

function perEndpoint({ sized }: PromptMatch): (EndpointMatch | undefined)[] {
  const found = endpointMatches(fleetViewOf(0, endpoints), sized);
  return endpoints.map(({ spec }) => found.get(spec.id));
}

/** Tiers by path of what a holder has. */
type Held = Map<string, Set<"gpu" | "cpu">>;

/** By the definition: the longest path that is held block by block, and the longest of the GPU's. */
function longestPaths(held: Held, sizes: readonly number[]): { held: number; gpu: number } {
  const longest = { held: 0, gpu: 0 };
  const visit = (path: Path, isGpu: boolean): void => {
    longest.held = Math.max(longest.held, lengthOf(path));
    if (isGpu) longest.gpu = Math.max(longest.gpu, lengthOf(path));
    for (const size of sizes) {
      const tiers = held.get([...path, size].join());
      if (tiers !== undefined && tiers.size > 0) visit([...path, size], isGpu && tiers.has("gpu"));
    }
  };
  visit([], true);
  return longest;
}

it("finds the longest chain of each holder, wherever the size of its blocks changes", () => {
  const stepArb = (sizes: readonly number[]) =>
    fc.record({
      holder: fc.nat({ max: holders.length - 1 }),
      path: fc.array(fc.constantFrom(...sizes), { minLength: 1, maxLength: 9 }),
      isOffloaded: fc.boolean(),
      evicted: fc.option(fc.nat({ max: 8 })),
    });
  const historyArb = fc
    .uniqueArray(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 })
    .chain((sizes) =>
      fc.record({
        sizes: fc.constant(sizes),
        salt: fc.option(fc.constant("tenant")),
        steps: fc.array(stepArb(sizes), { maxLength: 12 }),
      }),
    );
  let changes = 0;
  fc.assert(
    fc.property(historyArb, ({ sizes, salt, steps }) => {
      const router = new Router();
      const tokens = promptTokens(TOKENS);
      const held = holders.map((): Held => new Map());
      for (const { holder, path: wished, isOffloaded, evicted } of steps) {
        const paths = wished
          .map((_, at) => wished.slice(0, at + 1))
          .filter((path) => lengthOf(path) <= TOKENS);
        const own = held[holder] ?? new Map<string, Set<"gpu" | "cpu">>();
        const isNews = (path: Path): boolean => own.get(path.join())?.has("gpu") !== true;
        router.say(
          holder,
          paths.filter(isNews).map((path) => router.stored(path, tokens, salt)),
        );
        for (const path of paths) {
          own.set(path.join(), (own.get(path.join()) ?? new Set()).add("gpu"));
        }
        const last = paths.at(-1);
        if (isOffloaded && last !== undefined && own.get(last.join())?.has("cpu") === false) {
          router.say(holder, [router.offloaded(last)]);
          own.get(last.join())?.add("cpu");
        }
        const gone = evicted === null ? undefined : paths[evicted];
        if (gone !== undefined) {
          router.say(holder, [router.evicted(gone)]);
          own.get(gone.join())?.delete("gpu");
        }
      }
      const found = perEndpoint(router.match(tokens, salt));
      for (const [number, { spec }] of endpoints.entries()) {
        const ranks = holders.flatMap(({ endpointId }, at) =>
          endpointId === spec.id ? [longestPaths(held[at] ?? new Map(), sizes)] : [],
        );
        const least = Math.min(...ranks.map((rank) => rank.held));
        const match = found[number];
        expect(match?.heldTokens ?? 0).toBe(least);
        const shallowest = ranks.filter((rank) => rank.held === least).map(({ gpu }) => gpu);
        expect(shallowest).toContain(match?.gpuTokens ?? 0);
        const { gpu = 0, cpu = 0, nvme = 0, shared = 0 } = match?.tokensByTier ?? {};
        expect([gpu + cpu, nvme, shared]).toEqual([least, 0, 0]);
        expect(gpu).toBeGreaterThanOrEqual(match?.gpuTokens ?? 0);
        changes += least > 0 && sizes.every((size) => least % size > 0) ? 1 : 0;
      }
      // A prompt of another tenant has nothing.
      expect(perEndpoint(router.match(tokens, "stranger"))).toEqual(endpoints.map(() => undefined));
    }),
    { numRuns: 400 },
  );
  expect(changes).toBeGreaterThan(50);
});

it("says so where it does not look at every place", () => {
  const router = new Router();
  const tokens = promptTokens(12_000);
  const chain = (path: Path): BlockStored => router.stored(path, tokens, null);
  const many = BigUint64Array.from({ length: 10_000 }, (_, at) => BigInt(at + 1));
  const long = {
    ...chain([1]),
    handles: many,
    tokens: tokens.subarray(0, 10_000),
    extraKeys: null,
  };
  const parent = engineKey(10_000n);
  const tail = { ...chain([2]), parent, tokens: tokens.subarray(10_000, 10_002) };
  router.say(0, [long, tail]);
  expect(perEndpoint(router.match(tokens, null))[0]?.heldTokens).toBe(10_002);
  expect(router.meter.total("kvatlas_matches_cut_total")).toBe(1);
  expect(perEndpoint(router.match(tokens.subarray(0, 5000), null))[0]?.heldTokens).toBe(5000);
  expect(router.meter.total("kvatlas_matches_cut_total")).toBe(1);
});

it("leaves a connector's chunks alone: they follow chunks", () => {
  const router = new Router();
  const tokens = promptTokens(6);
  const chunk = { ...router.stored([2, 4], tokens, null), medium: "cpu" };
  router.say(0, [router.stored([2], tokens, null), chunk]);
  expect(perEndpoint(router.match(tokens, null))[0]?.heldTokens).toBe(2);
});
