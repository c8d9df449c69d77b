/**
 * A guard on the decision's quality: short runs of some families, in simulated time, so the same code
 * gives the same figures on any machine. Limits are generous; `npm run quality` judges in full.
 */
import { describe, expect, it } from "vitest";
import { nodeClock } from "../../core/node-clock.ts";
import { type ComparisonRow, policyNamed, runPolicy } from "./compare-policies.ts";
import { drawFamily, FAMILIES } from "./families.ts";
import { measureQuality, missesOf, type QualityRow, qualityLine } from "./quality.ts";

/** Runs of 800 requests have more noise than full ones. */
const LIMITS = { meanOverPeer: 1.05, meanOverOracle: 1.4, p99OverPeer: 1.3 };
const BLIND_OVER_ORACLE = 2.2;
const GUARDED = [
  ...["conversation-90", "agent-90", "synthetic-90", "hot-prefix", "metrics-15", "events-late"],
  ...["speeds", "churn", "pd", "mix", "replicas-shared", "replicas-blind"],
];

async function measure(name: string, requests = 800): Promise<QualityRow> {
  const family = FAMILIES.find((known) => known.name === name);
  const router = policyNamed("kvatlas", nodeClock);
  if (family === undefined || router === null) throw new Error(`no family ${name}`);
  return await measureQuality(router, { family, requests, seed: 1 }, nodeClock);
}

async function run(policyName: string, familyName: string): Promise<ComparisonRow> {
  const family = FAMILIES.find((known) => known.name === familyName);
  const policy = policyNamed(policyName, nodeClock);
  if (family === undefined || policy === null) throw new Error(`no ${familyName}, ${policyName}`);
  const world = drawFamily(family, { requests: 3000, seed: 1 });
  return await runPolicy(policy, { ...world, sloSeconds: 2 });
}

describe("quality of decisions", () => {
  it.each(GUARDED)(
    "%s: no worse than peers, near the oracle, nothing lost",
    async (name) => {
      const row = await measure(name);
      const line = qualityLine(row);
      expect(row.router.lost, line).toBe(0);
      expect(row.meanOverPeer, line).toBeLessThan(LIMITS.meanOverPeer);
      expect(row.p99OverPeer, line).toBeLessThan(LIMITS.p99OverPeer);
      const overOracle = name === "replicas-blind" ? BLIND_OVER_ORACLE : LIMITS.meanOverOracle;
      expect(row.meanOverOracle, line).toBeLessThan(overOracle);
    },
    60_000,
  );

  it.each(["hot-prefix", "hot-prefix-80"])(
    "%s: even load, and nearly the hit rate of affinity alone",
    async (name) => {
      const router = await run("kvatlas", name);
      const affinity = await run("affinity", name);
      expect(router.maxOverMeanLoad).toBeLessThan(1.4);
      expect(router.hitRate).toBeGreaterThan(0.9 * affinity.hitRate);
    },
  );

  it("is as good with metrics 15 s late, or none, as with fresh ones", async () => {
    const fresh = await run("kvatlas", "metrics-1");
    for (const name of ["metrics-15", "metrics-none"]) {
      const { ttftMeanSeconds, lost } = await run("kvatlas", name);
      expect(ttftMeanSeconds).toBeLessThan(1.05 * fresh.ttftMeanSeconds);
      expect(lost).toBe(0);
    }
  });

  it("is the same for the same seed", async () => {
    expect(await measure("churn", 200)).toEqual(await measure("churn", 200));
  });

  it("names what a row misses of its aim", async () => {
    const row = await measure("conversation-70", 200);
    expect(missesOf({ ...row, meanOverPeer: 0.8, meanOverOracle: 1, p99OverPeer: 1 })).toEqual(
      missesOf({ ...row, meanOverPeer: 0.89, meanOverOracle: 1.19, p99OverPeer: 1.04 }),
    );
    const worse = { ...row, meanOverPeer: 0.91, meanOverOracle: 1, p99OverPeer: 1 };
    const misses = missesOf({ ...worse, p99OverOracle: Number.NaN, goodputGain: -0.1 });
    expect(misses).toEqual(["mean/peer", "p99/oracle", "goodput"]);
  });
});
