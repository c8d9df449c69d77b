import { describe, expect, it } from "vitest";
import { seededRandom } from "../../core/random.ts";
import { offeredLoad } from "./offered-load.ts";
import { withBursts, withHotPrefix } from "./request-changes.ts";
import { SCENARIO_DEFAULTS as SCENARIO } from "./scenario.ts";
import type { SimRequest } from "./sim-request.ts";
import { WORKLOAD_NAMES, WORKLOADS, type WorkloadName } from "./workloads.ts";

const draw = (name: WorkloadName, seed = 1, load = 0.8): SimRequest[] =>
  WORKLOADS[name].draw({ requests: 250, load }, SCENARIO, seededRandom(seed));

describe("generated workloads", () => {
  it.each(WORKLOAD_NAMES)("%s: ids stand for whole prefixes, in order of time", (name) => {
    const requests = draw(name);
    expect(requests.length).toBeGreaterThanOrEqual(250);
    const times = requests.map(({ atSeconds }) => atSeconds);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    const parent = new Map<number, number>();
    const strays: number[] = [];
    for (const { inputTokens, outputTokens, blocks, answerBlocks } of requests) {
      expect(blocks.length).toBe(Math.floor(inputTokens / SCENARIO.blockTokens));
      expect(outputTokens).toBeGreaterThan(0);
      const all = [...blocks, ...answerBlocks];
      for (const [depth, block] of all.entries()) {
        const before = all[depth - 1] ?? 0;
        if ((parent.get(block) ?? before) !== before) strays.push(block);
        parent.set(block, before);
      }
    }
    expect(strays).toEqual([]);
  });

  it.each(WORKLOAD_NAMES)("%s: the same seed gives the same requests", (name) => {
    expect(draw(name, 3)).toEqual(draw(name, 3));
    expect(draw(name, 3)).not.toEqual(draw(name, 4));
  });

  it.each(["conversation", "agent", "synthetic", "mix"] as const)("%s offers its load", (name) => {
    for (const load of [0.7, 1.05]) {
      expect(offeredLoad(draw(name, 1, load), SCENARIO)).toBeCloseTo(load, 6);
    }
  });

  it("lets an agent's prompts be reused far more than a conversation's", () => {
    const reusable = (name: WorkloadName): number => {
      const seen = new Set<number>();
      let hit = 0;
      let all = 0;
      for (const { blocks, answerBlocks } of draw(name)) {
        hit += blocks.filter((block) => seen.has(block)).length;
        all += blocks.length;
        for (const block of [...blocks, ...answerBlocks]) seen.add(block);
      }
      return hit / all;
    };
    // Over a longer time an agent's share grows further: sessions here are met halfway.
    expect(reusable("agent")).toBeGreaterThan(2 * reusable("conversation"));
  });
});

describe("what befalls requests", () => {
  const steady = Array.from({ length: 1000 }, (_, index) => ({
    ...{ atSeconds: index / 10, session: "s", inputTokens: 600, outputTokens: 1 },
    ...{ blocks: [index + 1], answerBlocks: [] },
  }));

  it("bursts raise the rate in their time by their factor, and keep the order", () => {
    const burst = withBursts(steady, { periodSeconds: 20, burstSeconds: 4, factor: 3 });
    const rate = (from: number, to: number): number =>
      burst.filter(({ atSeconds }) => atSeconds >= from && atSeconds < to).length / (to - from);
    expect(rate(20, 24) / rate(24, 40)).toBeCloseTo(3, 0);
    expect(burst.length).toBe(1000);
    expect(burst.map(({ atSeconds }) => atSeconds)).toEqual(
      burst.map(({ atSeconds }) => atSeconds).sort((a, b) => a - b),
    );
  });

  it("a hot prefix takes its share of the traffic from its moment on", () => {
    const hot = { after: 0.4, share: 0.6, tokens: 1024 };
    const changed = withHotPrefix(steady, hot, { blockTokens: 512, random: seededRandom(2) });
    const [first = -1] = changed.find(({ session }) => session.startsWith("hot"))?.blocks ?? [];
    const begins = changed.map(({ blocks }) => blocks[0] === first);
    expect(begins.slice(0, 400)).not.toContain(true);
    expect(begins.slice(400).filter(Boolean).length / 600).toBeCloseTo(0.6, 1);
    expect(steady.some(({ blocks }) => blocks[0] === first)).toBe(false);
  });
});
