/**
 * The scenario families by which the decision is judged, and what is asked of it there: ratios to
 * the best of the re-created peers and to the exact-state reference.
 */
import { seededRandom } from "../../core/random.ts";
import { type Fault, SCENARIO_DEFAULTS, type Scenario, type ScenarioPod } from "../sim/scenario.ts";
import type { SimRequest } from "../sim/sim-request.ts";
import { WORKLOADS, type WorkloadName } from "../sim/workloads.ts";

/** Upper limits of the router's figure over the reference's. */
export interface Aim {
  readonly meanOverPeer: number;
  readonly meanOverOracle: number;
  readonly p99OverPeer: number;
  readonly p99OverOracle: number;
  /** Whether goodput must not be below the best peer's. */
  readonly isGoodputAsked: boolean;
}

const STABLE: Aim = aim([0.9, 1.2, 1.05, 1.15], true);
const OVERLOADED: Aim = aim([0.95, 1.1, 1.1, 1.3], false);
const SHARED: Aim = aim([0.9, 1.15, 1.05, 1.2], true);
const BLIND: Aim = aim([0.9, 1.65, 1.05, 1.65], true);

export interface Family {
  readonly name: string;
  readonly workload: WorkloadName;
  readonly load: number;
  readonly world: Partial<Scenario>;
  /** Faults by the length of the run, s. */
  readonly faults?: (seconds: number) => readonly Fault[];
  readonly aim: Aim;
}

const TIERS = { cpuTokens: 800_000, diskTokens: 3_200_000 };
const REPLICAS = { replicas: 4 };

export const FAMILIES: readonly Family[] = [
  { name: "conversation-70", workload: "conversation", load: 0.7, world: {}, aim: STABLE },
  { name: "conversation-90", workload: "conversation", load: 0.9, world: {}, aim: STABLE },
  { name: "agent-70", workload: "agent", load: 0.7, world: {}, aim: STABLE },
  { name: "agent-90", workload: "agent", load: 0.9, world: {}, aim: STABLE },
  { name: "synthetic-70", workload: "synthetic", load: 0.7, world: {}, aim: STABLE },
  { name: "synthetic-90", workload: "synthetic", load: 0.9, world: {}, aim: STABLE },
  { name: "bursts", workload: "bursts", load: 0.7, world: {}, aim: STABLE },
  { name: "hot-prefix", workload: "hot-prefix", load: 0.8, world: {}, aim: STABLE },
  { name: "hot-prefix-80", workload: "hot-prefix-80", load: 0.8, world: {}, aim: STABLE },
  { name: "metrics-1", workload: "conversation", load: 0.8, world: scraped(1), aim: STABLE },
  { name: "metrics-5", workload: "conversation", load: 0.8, world: scraped(5), aim: STABLE },
  { name: "metrics-15", workload: "conversation", load: 0.8, world: scraped(15), aim: STABLE },
  {
    name: "metrics-none",
    workload: "conversation",
    load: 0.8,
    world: scraped(Number.POSITIVE_INFINITY),
    aim: STABLE,
  },
  { name: "events-late", workload: "agent", load: 0.8, world: { kvDelaySeconds: 1 }, aim: STABLE },
  { name: "speeds", workload: "conversation", load: 0.7, world: { pods: speeds() }, aim: STABLE },
  { name: "churn", workload: "agent", load: 0.7, world: {}, faults: churn, aim: STABLE },
  { name: "tiers-80", workload: "paused", load: 0.8, world: TIERS, aim: STABLE },
  { name: "pd", workload: "conversation", load: 0.8, world: { pods: roles() }, aim: STABLE },
  { name: "conversation-105", workload: "conversation", load: 1.05, world: {}, aim: OVERLOADED },
  { name: "agent-135", workload: "agent", load: 1.35, world: {}, aim: OVERLOADED },
  { name: "synthetic-140", workload: "synthetic", load: 1.4, world: {}, aim: OVERLOADED },
  { name: "tiers-95", workload: "paused", load: 0.95, world: TIERS, aim: OVERLOADED },
  { name: "mix", workload: "mix", load: 1.05, world: {}, aim: OVERLOADED },
  { name: "replicas-shared", workload: "agent", load: 0.85, world: REPLICAS, aim: SHARED },
  {
    name: "replicas-blind",
    workload: "agent",
    load: 0.85,
    world: { ...REPLICAS, isGossipOn: false },
    aim: BLIND,
  },
];

export interface FamilyRun {
  readonly scenario: Scenario;
  readonly requests: readonly SimRequest[];
}

/** The same seed gives the same run. */
export function drawFamily(
  family: Family,
  size: { readonly requests: number; readonly seed: number },
): FamilyRun {
  const world = { ...SCENARIO_DEFAULTS, ...family.world, seed: size.seed };
  const demand = { requests: size.requests, load: family.load };
  const requests = WORKLOADS[family.workload].draw(demand, world, seededRandom(size.seed));
  const seconds = requests.at(-1)?.atSeconds ?? 0;
  return { scenario: { ...world, faults: family.faults?.(seconds) ?? [] }, requests };
}

function aim(limits: readonly [number, number, number, number], isGoodputAsked: boolean): Aim {
  const [meanOverPeer, meanOverOracle, p99OverPeer, p99OverOracle] = limits;
  return { meanOverPeer, meanOverOracle, p99OverPeer, p99OverOracle, isGoodputAsked };
}

function scraped(scrapeSeconds: number): Partial<Scenario> {
  return { scrapeSeconds };
}

function speeds(): ScenarioPod[] {
  return Array.from({ length: 12 }, (_, index) => ({ role: "both", speed: 2 ** (index % 3) }));
}

function roles(): ScenarioPod[] {
  const prefill = Array.from({ length: 8 }, (): ScenarioPod => ({ role: "prefill", speed: 1 }));
  return [...prefill, ...prefill.map((): ScenarioPod => ({ role: "decode", speed: 1 }))];
}

function churn(seconds: number): Fault[] {
  return [
    { atSeconds: seconds * 0.25, pod: 0, kind: "death" },
    { atSeconds: seconds * 0.35, pod: 1, kind: "drain" },
    { atSeconds: seconds * 0.5, pod: 2, kind: "death" },
    { atSeconds: seconds * 0.6, pod: 0, kind: "up" },
    { atSeconds: seconds * 0.7, pod: 1, kind: "up" },
  ];
}
