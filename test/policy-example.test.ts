/** docs/policy.md against the code: its constants, and its worked example as `decide` computes it. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { blockKey, type EndpointId, endpointId } from "../src/core/ids.ts";
import type { EndpointLoad } from "../src/fleet/endpoint-load.ts";
import type { EndpointView } from "../src/fleet/endpoint-view.ts";
import type { PrefixWork } from "../src/fleet/prefix-works.ts";
import { flowConfigSchema } from "../src/flow/config.ts";
import { type RouterConfig, routerConfigSchema } from "../src/router/config.ts";
import { type Candidate, decide, type Routed } from "../src/router/decide.ts";
import type { EndpointMatch } from "../src/router/endpoint-match.ts";
import type { PopularPrefix } from "../src/router/popularity.ts";
import { fleetViewOf, viewOf } from "./harness/fleet-values.ts";

/** The page with tables as they are made below, whatever the width of their columns. */
const page = read("docs/policy.md")
  .replaceAll(/ *\| */g, " | ")
  .replaceAll(/-{3,}/g, "---");
const config: RouterConfig = routerConfigSchema.parse({});
const CONSTANT_FILES = [
  ...["cost", "popularity", "decode-endpoint", "decide"].map((name) => `src/router/${name}.ts`),
  ...["ledger", "endpoint-load", "speeds", "peer-loads", "peer-prompts", "faults"].map(
    (name) => `src/fleet/${name}.ts`,
  ),
  "src/flow/holding-room.ts",
];
/** That of the example's popular prefix. */
const TIGHT = routerConfigSchema.parse({ popularity: { slack: 0.25, floorSeconds: 0.5 } });
const NOW_MS = 10_000;
const INPUT_TOKENS = 8192;

interface Pod {
  readonly name: string;
  readonly id: EndpointId;
  /** Leading tokens held, the GPU's first. */
  readonly gpuTokens: number;
  readonly cpuTokens: number;
  readonly load: Pick<EndpointLoad, "waiting" | "pendingSeconds" | "decoding" | "contextTokens">;
  /** Monotonic ms since the service of the oldest waiting request began. */
  readonly headMs: number;
  readonly scrapedWaiting: number;
  readonly signalAgeMs: number;
  /** Waiting work of the popular prefix, seconds. */
  readonly prefixSeconds: number;
}

const PODS: readonly Pod[] = [
  {
    name: "pod-1",
    id: endpointId("10.0.0.1:8000"),
    gpuTokens: 7680,
    cpuTokens: 0,
    load: { waiting: 2, pendingSeconds: 0.7, decoding: 0, contextTokens: 0 },
    headMs: 550,
    scrapedWaiting: 2,
    signalAgeMs: 500,
    prefixSeconds: 0.6,
  },
  {
    name: "pod-2",
    id: endpointId("10.0.0.2:8000"),
    gpuTokens: 2048,
    cpuTokens: 4096,
    load: { waiting: 0, pendingSeconds: 0, decoding: 9, contextTokens: 60_000 },
    headMs: 0,
    scrapedWaiting: 0,
    signalAgeMs: 250,
    prefixSeconds: 0,
  },
  {
    name: "pod-3",
    id: endpointId("10.0.0.3:8000"),
    gpuTokens: 0,
    cpuTokens: 0,
    load: { waiting: 0, pendingSeconds: 0, decoding: 0, contextTokens: 0 },
    headMs: 0,
    scrapedWaiting: 1,
    signalAgeMs: 1000,
    prefixSeconds: 0,
  },
];

const POPULAR: PopularPrefix = {
  ...{ key: blockKey(1n), blocks: 128, workRate: 1.2, holdersNeeded: 2 },
  holders: [endpointId("10.0.0.1:8000")],
};

describe("docs/policy.md", () => {
  it("has one row for each constant of the decision, with the value of the code", () => {
    const inCode = CONSTANT_FILES.flatMap((file) => {
      const found = [...read(file).matchAll(/^(?:export )?const ([A-Z_]+) = (\d[\d._e-]*);/gm)];
      expect(found.length, file).toBeGreaterThan(0);
      return found.map(([, name, value]) => [name, Number(value?.replaceAll("_", ""))]);
    });
    const rows = page.matchAll(/^ \| `([A-Z_]+)` \| (\S+) \| [^|]+ \| [^|]+ \| [^|]+ \| $/gm);
    const onPage = [...rows].map(([, name, value]) => [name, Number(value)]);
    expect(onPage.toSorted()).toEqual(inCode.toSorted());
  });

  it("names the defaults of the configuration", () => {
    const { popularity, policy: _, ...rest } = config;
    const defaults: [string, unknown][] = [
      ...Object.entries(rest).map(([key, value]): [string, unknown] => [`router.${key}`, value]),
      ...Object.entries(popularity).map(([key, value]): [string, unknown] => [
        `router.popularity.${key}`,
        value,
      ]),
    ];
    for (const [key, value] of Object.entries(flowConfigSchema.parse({}))) {
      defaults.push([`flow.${key}`, value]);
    }
    for (const [key, value] of defaults)
      expect(page).toContain(`\`${key}\` | ${JSON.stringify(value)} |`);
  });

  it("states the input of its example", () => {
    expect(page).toContain(
      table([
        ["", ...PODS.map(({ name }) => name)],
        ["leading tokens in the GPU", ...PODS.map(({ gpuTokens }) => text(gpuTokens))],
        ["further tokens in the CPU tier", ...PODS.map(({ cpuTokens }) => text(cpuTokens))],
        ["own requests waiting", ...PODS.map(({ load }) => text(load.waiting))],
        ["their work, s", ...PODS.map(({ load }) => text(load.pendingSeconds))],
        ["time into the oldest, s", ...PODS.map(({ headMs }) => text(headMs / 1000))],
        ["own requests decoding", ...PODS.map(({ load }) => text(load.decoding))],
        ["their context, tokens", ...PODS.map(({ load }) => text(load.contextTokens))],
        ["scraped: requests waiting", ...PODS.map(({ scrapedWaiting }) => text(scrapedWaiting))],
        ["age of the scrape, s", ...PODS.map(({ signalAgeMs }) => text(signalAgeMs / 1000))],
      ]),
    );
  });

  it("states the costs of its example as they are computed", () => {
    const { chosen, reason, ...decision } = routed(null);
    const candidates = decision.candidates.all();
    const row = (name: string, value: (candidate: Candidate) => string): string[] => [
      name,
      ...candidates.map(value),
    ];
    expect(page).toContain(
      table([
        ["", ...PODS.map(({ name }) => name)],
        row("tokens reused", ({ reusedTokens }) => text(reusedTokens)),
        row("own work w, ms", ({ workSeconds }) => ms(workSeconds)),
        row("queue, ms", ({ terms }) => ms(terms.queue)),
        row("prefill, ms", ({ terms }) => ms(terms.prefill)),
        row("externality, ms", ({ terms }) => ms(terms.externality)),
        row("interference, ms", ({ terms }) => ms(terms.interference)),
        row("KV pressure, ms", ({ terms }) => ms(terms.kvPressure)),
        row("KV memory, ms", ({ terms }) => ms(terms.kvMemory)),
        row("faults, ms", ({ terms }) => ms(terms.faults)),
        row("surplus, ms", ({ terms }) => ms(terms.surplus)),
        row("spend, ms", ({ terms }) => ms(terms.spend)),
        row("warmup, ms", ({ terms }) => ms(terms.warmup)),
        row("**cost, ms**", ({ costSeconds }) => `**${ms(costSeconds)}**`),
      ]),
    );
    expect(page).toContain(`The request goes to ${nameOf(chosen)} (\`${reason}\`)`);
  });

  it("states where the cap of its example sends the request", () => {
    const { chosen, reason, ...decision } = routed(POPULAR);
    const candidates = decision.candidates.all();
    const [first] = candidates;
    const work = first?.workSeconds ?? 0;
    const outstanding = PODS.reduce((sum, { prefixSeconds }) => sum + prefixSeconds, 0);
    const { slack, floorSeconds } = TIGHT.popularity;
    const share = ((1 + slack) * (outstanding + work)) / POPULAR.holdersNeeded;
    expect(candidates.map(({ cap }) => cap?.isCapped)).toEqual([true, false, false]);
    expect(page).toContain(
      `${text(outstanding)} s + ${ms(work)} ms = ${ms(outstanding + work)} ms is over max(${ms(floorSeconds)} ms, ${ms(share)} ms)`,
    );
    expect(page).toContain(`goes to ${nameOf(chosen)} (\`${reason}\`)`);
  });
});

function routed(popularPrefix: PopularPrefix | null): Routed {
  const decision = decide({
    fleet: fleetViewOf(NOW_MS, PODS.map(podView)),
    ...{ subset: null, excluded: new Set<EndpointId>(), states: new Map() },
    matches: new Map(PODS.map((pod) => [pod.id, matchOf(pod)])),
    inputTokens: INPUT_TOKENS,
    popularPrefix,
    prefixWork: new Map<EndpointId, PrefixWork>(
      PODS.filter(({ prefixSeconds }) => prefixSeconds > 0).map(({ id, prefixSeconds }) => [
        id,
        { requests: 1, workSeconds: prefixSeconds },
      ]),
    ),
    ...{ config: popularPrefix === null ? config : TIGHT, random: 0, turn: 0 },
  });
  if (decision.kind === "none") throw new Error(decision.reason);
  return decision;
}

function podView({ id, load, headMs, scrapedWaiting, signalAgeMs }: Pod): EndpointView {
  const value = { waiting: scrapedWaiting, running: load.decoding, kvUsage: 0.5 };
  return viewOf(id, {
    poolTokens: 400_000,
    pendingAtSignals: load.pendingSeconds,
    signals: {
      atMs: NOW_MS - signalAgeMs,
      value: { ...value, blockSizeTokens: 16, gpuBlocks: 25_000 },
    },
    load: {
      ...load,
      requests: load.waiting + load.decoding,
      headSinceMs: NOW_MS - headMs,
      blockTokens: load.contextTokens,
      blockSizeTokens: 16,
    },
  });
}

function matchOf({ gpuTokens, cpuTokens }: Pod): EndpointMatch {
  return {
    ...{ gpuTokens, inflightTokens: 0, heldTokens: gpuTokens + cpuTokens },
    tokensByTier: { gpu: gpuTokens, cpu: cpuTokens, nvme: 0, shared: 0 },
  };
}

function nameOf(candidate: Candidate): string {
  return PODS.find(({ id }) => id === candidate.endpointId)?.name ?? "";
}

function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]): string => ` | ${cells.join(" | ")} | `;
  return [line(head), line(head.map(() => "---")), ...body.map(line)].join("\n");
}

function ms(seconds: number): string {
  return (seconds * 1000).toFixed(1);
}

function text(count: number): string {
  return count.toLocaleString("en-US");
}

function read(path: string): string {
  return readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
}
