/** The generated workloads that policies can be compared on, by name. */
import type { Random } from "../../core/random.ts";
import { type HotPrefix, withBursts, withHotPrefix } from "./request-changes.ts";
import type { Scenario } from "./scenario.ts";
import { drawSessions, SESSION_SHAPES, type SessionShape } from "./session-requests.ts";
import type { SimRequest } from "./sim-request.ts";

export interface Demand {
  readonly requests: number;
  /** Offered load, as offeredLoad counts it. */
  readonly load: number;
}

interface Workload {
  /** For people. */
  readonly description: string;
  readonly draw: (demand: Demand, scenario: Scenario, random: Random) => SimRequest[];
}

const BURSTS = { periodSeconds: 20, burstSeconds: 4, factor: 3 };
const HOT = { after: 0.3, share: 0.6, tokens: 8192 };

export const WORKLOADS = {
  conversation: {
    description: "long conversations, a quarter of whose tokens can be reused",
    draw: (demand, scenario, random) =>
      drawSessions(only("conversation", demand), scenario, random),
  },
  agent: {
    description: "tool loops over large system prompts: most tokens can be reused",
    draw: (demand, scenario, random) => drawSessions(only("agent", demand), scenario, random),
  },
  synthetic: {
    description: "questions about shared long documents",
    draw: (demand, scenario, random) => drawSessions(only("synthetic", demand), scenario, random),
  },
  paused: {
    description: "long sessions with pauses of a minute: lower tiers hold what the GPU lets go",
    draw: (demand, scenario, random) => drawSessions(only("paused", demand), scenario, random),
  },
  mix: {
    description: "short chats, and one long prompt in fourteen sessions",
    draw: (demand, scenario, random) => {
      const parts = [
        { shape: SESSION_SHAPES.short, share: 13 },
        { shape: SESSION_SHAPES.long, share: 1 },
      ];
      return drawSessions({ ...demand, parts }, scenario, random);
    },
  },
  bursts: {
    description: "conversations whose rate triples for 4 s in every 20",
    draw: (demand, scenario, random) =>
      withBursts(drawSessions(only("conversation", demand), scenario, random), BURSTS),
  },
  "hot-prefix": {
    description: "conversations; suddenly 60 % of the requests begin with the same 8,192 tokens",
    draw: (demand, scenario, random) => drawHot(demand, scenario, random, HOT),
  },
  "hot-prefix-80": {
    description: "the same with 80 % of the requests",
    draw: (demand, scenario, random) => drawHot(demand, scenario, random, { ...HOT, share: 0.8 }),
  },
} as const satisfies Readonly<Record<string, Workload>>;

export type WorkloadName = keyof typeof WORKLOADS;
export const WORKLOAD_NAMES = Object.keys(WORKLOADS) as WorkloadName[];

function drawHot(demand: Demand, scenario: Scenario, random: Random, hot: HotPrefix): SimRequest[] {
  const { blockTokens } = scenario;
  const requests = drawSessions(only("conversation", demand), scenario, random);
  return withHotPrefix(requests, hot, { blockTokens, random });
}

function only(
  name: keyof typeof SESSION_SHAPES,
  demand: Demand,
): Demand & { readonly parts: { readonly shape: SessionShape; readonly share: number }[] } {
  return { ...demand, parts: [{ shape: SESSION_SHAPES[name], share: 1 }] };
}
