import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fleetViewOf, viewOf } from "../../test/harness/fleet-values.ts";
import { endpointId } from "../core/ids.ts";
import { routerConfigSchema } from "./config.ts";
import { decide, type Routed } from "./decide.ts";
import { type CostTermName, type DecisionRecord, decisionRecord } from "./decision-record.ts";
import type { EndpointMatch } from "./endpoint-match.ts";
import { keptDecision } from "./kept-decision.ts";

const config = routerConfigSchema.parse({});
const NOW_MS = 100_000;
const WISHES = {
  ...{ priority: 3, objective: "batch", fairnessId: "team", ttftSloMs: 500, tpotSloMs: null },
};
const REQUEST = {
  ...{ requestId: "r1", atMs: 5, inputTokens: 4000, heldMs: 0, wishes: WISHES },
  matchedBy: "tokens" as const,
};

const pods = fc.array(
  fc.record({
    waiting: fc.integer({ min: 0, max: 9 }),
    pendingSeconds: fc.double({ min: 0, max: 5, noNaN: true }),
    decoding: fc.integer({ min: 0, max: 40 }),
    heldTokens: fc.integer({ min: 0, max: 4000 }),
  }),
  { minLength: 1, maxLength: 30 },
);

interface Pod {
  readonly waiting: number;
  readonly pendingSeconds: number;
  readonly decoding: number;
  readonly heldTokens: number;
}

const nameOf = (number: number): string => `10.0.0.${number + 1}:8000`;

function route(drawn: readonly Pod[], more: Partial<Parameters<typeof decide>[0]> = {}): Routed {
  const matches = drawn.map(
    ({ heldTokens }, number): [ReturnType<typeof endpointId>, EndpointMatch] => [
      endpointId(nameOf(number)),
      {
        ...{ gpuTokens: heldTokens, inflightTokens: 0, heldTokens },
        tokensByTier: { gpu: heldTokens, cpu: 0, nvme: 0, shared: 0 },
      },
    ],
  );
  const endpoints = drawn.map(({ waiting, pendingSeconds, decoding }, number) =>
    viewOf(nameOf(number), {
      load: {
        ...{ waiting, decoding, requests: waiting + decoding, contextTokens: decoding * 3000 },
        ...{ pendingSeconds: waiting > 0 ? pendingSeconds : 0, headSinceMs: NOW_MS },
      },
    }),
  );
  const decision = decide({
    ...{ fleet: fleetViewOf(NOW_MS, endpoints), subset: null, excluded: new Set() },
    ...{ states: new Map(), matches: new Map(matches), inputTokens: 4000, config },
    ...{ popularPrefix: null, prefixWork: new Map(), random: 0, turn: 1, ...more },
  });
  if (decision.kind !== "routed") throw new Error(decision.reason);
  return decision;
}

const recordOf = (decision: Routed): DecisionRecord =>
  decisionRecord(keptDecision(decision, REQUEST));

describe("decision record", () => {
  it("is bounded, plain, and adds up", () => {
    fc.assert(
      fc.property(pods, (drawn) => {
        const record = recordOf(route(drawn));
        const { candidates, chosen, runnerUp } = record;
        expect(record.candidateCount).toBe(drawn.length);
        expect(candidates.length).toBeLessThanOrEqual(Math.min(10, drawn.length));
        expect(candidates.map(({ endpoint }) => endpoint)).toContain(chosen.endpoint);
        for (const { costMs, termsMs } of candidates) {
          const sum = Object.values(termsMs).reduce((total, term) => total + term, 0);
          expect(Math.abs(sum - costMs)).toBeLessThan(0.5);
          expect(costMs).toBeGreaterThanOrEqual(chosen.costMs - 0.1);
        }
        expect(runnerUp === null).toBe(drawn.length === 1);
        expect(JSON.parse(JSON.stringify(record))).toEqual(record);
      }),
    );
  });

  it("names what would have changed it: with those terms alike, the other is no dearer", () => {
    let claims = 0;
    fc.assert(
      fc.property(pods, (drawn) => {
        const { chosen, runnerUp, wouldHaveChanged } = recordOf(route(drawn));
        expect(wouldHaveChanged.length > 0).toBe(runnerUp !== null);
        for (const claim of wouldHaveChanged) {
          const terms = [...claim.matchAll(/(\w+) \([\d.]+ ms less\)/g)].map(
            ([, name]) => name as CostTermName,
          );
          claims += terms.length;
          const otherwise = terms.reduce(
            (cost, term) => cost - (runnerUp?.termsMs[term] ?? 0) + chosen.termsMs[term],
            runnerUp?.costMs ?? 0,
          );
          expect(otherwise).toBeLessThanOrEqual(chosen.costMs + 0.5);
        }
      }),
    );
    expect(claims).toBeGreaterThan(10);
  });

  it("says which endpoint the popularity cap kept the request from", () => {
    const prefix = { key: 7n, blocks: 4, holdersNeeded: 2, workRate: 1.2, holders: [] };
    const holder = { waiting: 1, pendingSeconds: 0.01, decoding: 0, heldTokens: 3900 };
    const other = { waiting: 0, pendingSeconds: 0, decoding: 0, heldTokens: 0 };
    const work = { requests: 3, workSeconds: 9 };
    const decision = route([holder, other], {
      popularPrefix: prefix,
      prefixWork: new Map([[endpointId(nameOf(0)), work]]),
      config: { ...config, popularity: { ...config.popularity, slack: 0.25 } },
    });
    const record: DecisionRecord = recordOf(decision);
    expect(record).toMatchObject({ reason: "next-holder", popularPrefix: { holdersNeeded: 2 } });
    expect(record.chosen.endpoint).toBe(nameOf(1));
    expect(record.candidates[0]).toMatchObject({ endpoint: nameOf(0), cap: { isCapped: true } });
    expect(record.wouldHaveChanged).toEqual([
      `without the popularity cap it would have gone to ${nameOf(0)}`,
    ]);
  });
});
