import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fleetViewOf, viewOf } from "../../test/harness/fleet-values.ts";
import { type EndpointId, endpointId } from "../core/ids.ts";
import type { EndpointLoad } from "../fleet/endpoint-load.ts";
import type { EndpointView } from "../fleet/endpoint-view.ts";
import { routerConfigSchema } from "./config.ts";
import { type DecisionInput, decide } from "./decide.ts";
import type { EndpointMatch } from "./endpoint-match.ts";

const config = routerConfigSchema.parse({});
const tight = { ...config, popularity: { ...config.popularity, slack: 0.25, floorSeconds: 0.5 } };
const NOW_MS = 100_000;

function endpoint(number: number, load: Partial<EndpointLoad> = {}): EndpointView {
  return viewOf(`10.0.0.${number}:8000`, { load });
}

function held(tokens: number, cpu = 0): EndpointMatch {
  return {
    ...{ gpuTokens: tokens, inflightTokens: 0, heldTokens: tokens + cpu },
    tokensByTier: { gpu: tokens, cpu, nvme: 0, shared: 0 },
  };
}

function input(
  endpoints: readonly EndpointView[],
  rest: Partial<DecisionInput> = {},
): DecisionInput {
  return {
    fleet: fleetViewOf(NOW_MS, endpoints),
    subset: null,
    excluded: new Set(),
    states: new Map(),
    matches: new Map(),
    inputTokens: 4000,
    popularPrefix: null,
    prefixWork: new Map(),
    config,
    random: 0,
    turn: 1,
    ...rest,
  };
}

function chosen(decisionInput: DecisionInput): EndpointId | string {
  const decision = decide(decisionInput);
  return decision.kind === "none" ? decision.reason : decision.chosen.endpointId;
}

const idOf = (number: number): EndpointId => endpointId(`10.0.0.${number}:8000`);

describe("decide", () => {
  it("tells of each candidate how well it is known", () => {
    const gap = { state: "DEGRADED", reason: "gap" } as const;
    const decision = decide(
      input([endpoint(1), endpoint(2)], { states: new Map([[idOf(1), gap]]) }),
    );
    const known =
      decision.kind === "routed" ? decision.candidates.all().map((each) => each.known) : [];
    expect(known).toEqual([gap, { state: "FALLBACK", reason: "not-heard" }]);
  });

  it("prefers the holder of the prefix, and says what the others would have cost", () => {
    const decision = decide(
      input([endpoint(1), endpoint(2), endpoint(3)], { matches: new Map([[idOf(2), held(3200)]]) }),
    );
    expect(decision).toMatchObject({
      kind: "routed",
      reason: "cheapest",
      chosen: { endpointId: idOf(2), reusedTokens: 3200 },
      runnerUp: { reusedTokens: 0 },
      possibleTokens: 3200,
    });
  });

  it("leaves the holder when waiting there costs more than computing elsewhere", () => {
    const busy = endpoint(2, {
      requests: 9,
      waiting: 9,
      pendingSeconds: 3,
      headSinceMs: NOW_MS,
    });
    const matches = new Map([[idOf(2), held(3200)]]);
    expect(chosen(input([endpoint(1), busy], { matches }))).toBe(idOf(1));
    const nearlyDone = { ...busy, load: { ...busy.load, pendingSeconds: 0.01 } };
    expect(chosen(input([endpoint(1), nearlyDone], { matches }))).toBe(idOf(2));
  });

  it("takes blocks of a lower tier when loading them is cheaper than computing them", () => {
    const matches = new Map([[idOf(2), held(0, 3200)]]);
    expect(chosen(input([endpoint(1), endpoint(2)], { matches }))).toBe(idOf(2));
    const slow = { ...config, cpuBytesPerSecond: 1e6 };
    const decision = decide(input([endpoint(1), endpoint(2)], { matches, config: slow }));
    expect(decision).toMatchObject({ kind: "routed", chosen: { reusedTokens: 0 } });
  });

  it("weighs the price of an accelerator's time only where the operator says what a dollar is worth", () => {
    const fast = { accelerator: { speed: 2, dollarsPerHour: 9 } };
    const cheap = { accelerator: { speed: 1, dollarsPerHour: 1.8 } };
    const pods = [
      viewOf("10.0.0.1:8000", { spec: fast, load: { speed: 2 } }),
      viewOf("10.0.0.2:8000", { spec: cheap }),
    ];
    expect(chosen(input(pods))).toBe(idOf(1));
    const worth = { ...config, secondsPerDollar: 1000 };
    const decision = decide(input(pods, { config: worth }));
    if (decision.kind === "none") throw new Error(decision.reason);
    expect(decision.chosen.endpointId).toBe(idOf(2));
    // 1000 s/$ x 1.8 $/h = 0.5 s a second: half of its own work.
    expect(decision.chosen.terms.spend).toBeCloseTo(decision.chosen.workSeconds / 2, 9);
    // Twice as fast at five times the price: 2.5 times as dear for the same work.
    const { runnerUp, chosen: taken } = decision;
    expect(runnerUp?.terms.spend).toBeCloseTo(2.5 * taken.terms.spend, 9);
    const free = decide(input([endpoint(1), endpoint(2)], { config: worth }));
    expect(free).toMatchObject({ chosen: { terms: { spend: 0 } } });
  });

  it("avoids a pod near its KV limit, and trusts an old signal less", () => {
    const signals = {
      waiting: 0,
      running: 0,
      kvUsage: 0.97,
      blockSizeTokens: 16,
      gpuBlocks: 25_000,
    };
    const at = (atMs: number): EndpointView => ({
      ...endpoint(1),
      poolTokens: 400_000,
      signals: { value: signals, atMs },
    });
    const matches = new Map([[idOf(1), held(800)]]);
    expect(chosen(input([at(NOW_MS), endpoint(2)], { matches }))).toBe(idOf(2));
    expect(chosen(input([at(NOW_MS - 60_000), endpoint(2)], { matches }))).toBe(idOf(1));
  });

  it("answers why when nothing can be chosen", () => {
    const draining = { ...endpoint(1), isReady: false, readyReason: "draining" as const };
    expect(chosen(input([]))).toBe("no-ready-endpoint");
    expect(chosen(input([draining]))).toBe("no-ready-endpoint");
    expect(chosen(input([endpoint(1)], { subset: ["10.0.0.9:8000"] }))).toBe("subset-empty");
    expect(chosen(input([draining, endpoint(2)], { subset: ["10.0.0.2"] }))).toBe(idOf(2));
  });

  it("follows the comparison policies when configured", () => {
    const endpoints = [endpoint(1, { requests: 3, decoding: 3 }), endpoint(2), endpoint(3)];
    const least = { ...config, policy: "least-requests" as const };
    expect(chosen(input(endpoints, { config: least, random: 0.99 }))).toBe(idOf(3));
    const rotation = { ...config, policy: "round-robin" as const };
    const turns = [0, 1, 2, 3].map((turn) => chosen(input(endpoints, { config: rotation, turn })));
    expect(turns).toEqual([idOf(1), idOf(2), idOf(3), idOf(1)]);
  });

  it("spreads a popular prefix over the holders it needs", () => {
    const popularPrefix = {
      key: 1n,
      blocks: 64,
      workRate: 2,
      holdersNeeded: 3,
      holders: [idOf(1)],
    };
    const matches = new Map([[idOf(1), held(3900)]]);
    const outstanding = { requests: 40, workSeconds: 2 };
    const prefixWork = new Map([[idOf(1), outstanding]]);
    const endpoints = [endpoint(1), endpoint(2), endpoint(3)];
    const decision = decide(
      input(endpoints, { matches, popularPrefix, prefixWork, config: tight }),
    );
    expect(decision).toMatchObject({ kind: "routed", reason: "next-holder" });
    expect(
      chosen(input(endpoints, { matches, popularPrefix, prefixWork, config: tight })),
    ).not.toBe(idOf(1));
    // With as many holders as are needed it goes to the cheapest of them, however dear.
    const holders = [idOf(1), idOf(3), idOf(2)];
    const busy = [endpoint(1), endpoint(2), endpoint(3, { decoding: 30, contextTokens: 90_000 })];
    const enough = { ...popularPrefix, holdersNeeded: 2, holders: holders.slice(0, 2) };
    expect(
      decide(input(busy, { matches, popularPrefix: enough, prefixWork, config: tight })),
    ).toMatchObject({
      ...{ kind: "routed", reason: "popularity-cap", chosen: { endpointId: idOf(3) } },
      runnerUp: { endpointId: idOf(1), cap: { isCapped: true, holder: "core" } },
    });
    // Under the cap it stays; with too few holders the next one is made before it has to be.
    expect(chosen(input(endpoints, { matches, popularPrefix: enough }))).toBe(idOf(1));
    expect(decide(input(endpoints, { matches, popularPrefix }))).toMatchObject({
      ...{ kind: "routed", reason: "next-holder", chosen: { endpointId: idOf(2) } },
    });
  });
});

describe("decide, for any fleet", () => {
  const loadArb = fc
    .record({
      waiting: fc.integer({ min: 0, max: 50 }),
      decoding: fc.integer({ min: 0, max: 200 }),
      pendingSeconds: fc.double({ min: 0, max: 100, noNaN: true }),
      ageMs: fc.integer({ min: -1000, max: 100_000 }),
      contextTokens: fc.integer({ min: 0, max: 1_000_000 }),
      generatedTokens: fc.integer({ min: 0, max: 1_000_000 }),
      blockTokens: fc.integer({ min: 0, max: 1_000_000 }),
      speed: fc.double({ min: 0.01, max: 100, noNaN: true }),
    })
    .map(({ ageMs, ...load }) => ({
      ...load,
      requests: load.waiting + load.decoding,
      headSinceMs: NOW_MS - ageMs,
    }));
  const endpointArb = fc.record({
    load: loadArb,
    isReady: fc.boolean(),
    role: fc.constantFrom("both", "both", "prefill", "decode"),
    poolTokens: fc.constantFrom(0, 16_000),
    isExcluded: fc.boolean(),
    peers: fc.array(
      fc.record({
        atMs: fc.integer({ min: NOW_MS - 30_000, max: NOW_MS + 100 }),
        pendingSeconds: fc.double({ min: 0, max: 100, noNaN: true }),
        waiting: fc.nat(50),
        decoding: fc.nat(50),
        contextTokens: fc.nat(1_000_000),
        kvTokens: fc.nat(1_000_000),
        pairedTokens: fc.nat(1_000_000),
        pairedRequests: fc.nat(50),
        servedSeconds: fc.nat(1_000_000),
      }),
      { maxLength: 3 },
    ),
    signals: fc.option(
      fc.record({
        atMs: fc.integer({ min: 0, max: NOW_MS + 5000 }),
        value: fc.record({
          waiting: fc.option(fc.integer({ min: 0, max: 1000 })),
          running: fc.constant(null),
          kvUsage: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
          blockSizeTokens: fc.constantFrom(null, 16),
          gpuBlocks: fc.constantFrom(null, 1000),
        }),
      }),
    ),
    gpu: fc.integer({ min: 0, max: 5000 }),
    cpu: fc.integer({ min: 0, max: 5000 }),
    outstanding: fc.double({ min: 0, max: 50, noNaN: true }),
  });

  it("chooses a ready endpoint of the subset, with finite terms, and the same one again", () => {
    fc.assert(
      fc.property(
        fc.array(endpointArb, { maxLength: 12 }),
        fc.integer({ min: 0, max: 200_000 }),
        fc.option(fc.integer({ min: 2, max: 12 })),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.boolean(),
        (parts, inputTokens, holdersNeeded, random, hasSubset) => {
          const endpoints = parts.map(({ load, isReady, signals, role, peers, poolTokens }, i) =>
            viewOf(idOf(i), { spec: { role }, load, isReady, signals, peers, poolTokens }),
          );
          const excluded = new Set(parts.flatMap((part, i) => (part.isExcluded ? [idOf(i)] : [])));
          const subset = hasSubset ? ["10.0.0.1", "10.0.0.3:8000"] : null;
          const holders = endpoints.map(({ spec }) => spec.id).slice(0, 5);
          const decisionInput = input(endpoints, {
            inputTokens,
            random,
            subset,
            excluded,
            matches: new Map(parts.map(({ gpu, cpu }, i) => [idOf(i), held(gpu, cpu)])),
            popularPrefix:
              holdersNeeded === null
                ? null
                : { key: 1n, blocks: 8, workRate: holdersNeeded * 0.7, holdersNeeded, holders },
            prefixWork: new Map(
              parts.map(({ outstanding }, i) => [
                idOf(i),
                { requests: 1, workSeconds: outstanding },
              ]),
            ),
          });
          const decision = decide(decisionInput);
          expect(decide(decisionInput)).toEqual(decision);
          const decoders = endpoints
            .filter(({ isReady, spec }) => isReady && spec.role === "decode")
            .filter(({ spec }) => !excluded.has(spec.id))
            .filter(({ spec }) => subset === null || spec.id === idOf(1) || spec.id === idOf(3));
          const allowed = endpoints.filter(
            ({ isReady, spec }) =>
              isReady &&
              spec.role !== "decode" &&
              (spec.role === "both" || decoders.length > 0) &&
              !excluded.has(spec.id) &&
              (subset === null || spec.id === idOf(1) || spec.id === idOf(3)),
          );
          if (decision.kind === "none") {
            expect(allowed).toEqual([]);
            return;
          }
          const { endpointId } = decision.chosen;
          const role = endpoints.find(({ spec }) => spec.id === endpointId)?.spec.role;
          if (role === "prefill") {
            expect(decoders.map(({ spec }) => spec.id)).toContain(decision.decodeEndpointId);
          } else expect(decision.decodeEndpointId).toBeNull();
          expect(allowed.map(({ spec }) => spec.id)).toContain(decision.chosen.endpointId);
          const candidates = decision.candidates.all();
          for (const { terms, costSeconds, reusedTokens, signalAgeMs } of candidates) {
            for (const term of [...Object.values(terms), costSeconds]) {
              expect(Number.isFinite(term) && term >= 0).toBe(true);
            }
            expect(reusedTokens).toBeLessThanOrEqual(Math.max(0, inputTokens - 1));
            expect(signalAgeMs ?? 0).toBeGreaterThanOrEqual(0);
          }
          if (candidates.some(({ cap }) => cap?.isCapped !== true)) {
            expect(decision.chosen.cap?.isCapped).not.toBe(true);
          }
        },
      ),
    );
  });
});
