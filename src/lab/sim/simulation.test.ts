import { describe, expect, it } from "vitest";
import { nodeClock } from "../../core/node-clock.ts";
import { seededRandom } from "../../core/random.ts";
import { createPolicy } from "../policies/policies.ts";
import type {
  RouteMessage,
  SimulateAnswer,
  SimulatedRouter,
  SimulateMessage,
} from "../simulate/messages.ts";
import { ProcessRouterLink } from "./process-router-link.ts";
import { linkInProcess } from "./router-link.ts";
import { SCENARIO_DEFAULTS, type Scenario } from "./scenario.ts";
import type { SimOutcome } from "./sim-outcome.ts";
import type { SimRequest } from "./sim-request.ts";
import { type SimTruth, Simulation } from "./simulation.ts";
import { WORKLOADS, type WorkloadName } from "./workloads.ts";

const PODS = { pods: SCENARIO_DEFAULTS.pods.slice(0, 4) };

function worldOf(partial: Partial<Scenario> = {}): Scenario {
  return { ...SCENARIO_DEFAULTS, ...PODS, ...partial };
}

function draw(scenario: Scenario, name: WorkloadName = "conversation", load = 0.6): SimRequest[] {
  return WORKLOADS[name].draw({ requests: 150, load }, scenario, seededRandom(1));
}

/** Runs with a router that notes all that it is told. */
async function recorded(
  scenario: Scenario,
  requests: readonly SimRequest[],
  create: (replica: number, truth: SimTruth) => SimulatedRouter = createPolicy("least-requests"),
): Promise<{ outcome: SimOutcome; told: SimulateMessage[][]; truth: SimTruth }> {
  const told: SimulateMessage[][] = [];
  const truths: SimTruth[] = [];
  const simulation = new Simulation(scenario, requests, {
    createLink: (replica, truth) => {
      const router = create(replica, truth);
      const messages: SimulateMessage[] = [];
      told.push(messages);
      truths.push(truth);
      return linkInProcess({
        handle: (message): SimulateAnswer | null => {
          messages.push(message);
          return router.handle(message);
        },
      });
    },
  });
  const outcome = await simulation.run();
  const [truth] = truths;
  if (truth === undefined) throw new Error("no router was created");
  return { outcome, told, truth };
}

const ofOp = <Op extends SimulateMessage["op"]>(
  messages: readonly SimulateMessage[],
  op: Op,
): Extract<SimulateMessage, { op: Op }>[] =>
  messages.filter((message): message is Extract<SimulateMessage, { op: Op }> => message.op === op);

describe("simulation", () => {
  it("tells in order of time, and each request's story in its order", async () => {
    const scenario = worldOf();
    const requests = draw(scenario);
    const { told, outcome } = await recorded(scenario, requests);
    const messages = told[0] ?? [];
    const times = messages.map((message) => ("t" in message ? message.t : 0));
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    for (const [id, { outputTokens }] of requests.entries()) {
      const story = messages.filter(
        (message) =>
          ("id" in message && message.id === id) ||
          (message.op === "progress" && message.ids.includes(id)),
      );
      const ops = story.map(({ op }) => op).filter((op) => op !== "progress");
      expect(ops).toEqual(["route", "first_token", "finish"]);
      expect(story.at(-1)).toMatchObject({ op: "finish", output_tokens: outputTokens, ok: true });
      const streamed = ofOp(story, "progress").reduce((sum, { tokens }) => sum + tokens, 1);
      expect(streamed).toBeLessThanOrEqual(outputTokens);
    }
    expect(outcome.summary(2)).toMatchObject({ requests: requests.length, lost: 0 });
  });

  it("tells by KV events exactly what the pods hold, in every tier", async () => {
    const scenario = worldOf({ kvTokens: 60_000, cpuTokens: 60_000, diskTokens: 120_000 });
    const { told, truth } = await recorded(scenario, draw(scenario, "agent"));
    const messages = told[0] ?? [];
    for (const { id, pod } of truth.hosts) {
      const tiers = { gpu: pod.cache, cpu: pod.cache.cpu, disk: pod.cache.disk };
      for (const [name, tier] of Object.entries(tiers)) {
        const held = new Set<number>();
        const seen = new Set<number>();
        const wrong: number[] = [];
        for (const { pod: at, tier: of, type, blocks } of ofOp(messages, "kv")) {
          if (at !== id || of !== name) continue;
          for (const block of blocks) {
            seen.add(block);
            if (held.has(block) !== (type === "removed")) wrong.push(block);
            if (type === "stored") held.add(block);
            else held.delete(block);
          }
        }
        expect(seen.size).toBeGreaterThan(held.size);
        wrong.push(...[...seen].filter((block) => tier.has(block) !== held.has(block)));
        expect(wrong).toEqual([]);
      }
    }
  });

  it("is the same again for the same input", async () => {
    const scenario = worldOf({ replicas: 3 });
    const requests = draw(scenario, "agent");
    const run = async (): Promise<unknown> =>
      (await recorded(scenario, requests, createPolicy("llm-d"))).outcome;
    expect(await run()).toEqual(await run());
  });

  it("loses no request to deaths and drains, and tells of them late", async () => {
    const scenario = worldOf({
      faults: [
        { atSeconds: 10, pod: 0, kind: "death" },
        { atSeconds: 20, pod: 1, kind: "drain" },
        { atSeconds: 25, pod: 0, kind: "up" },
        { atSeconds: 30, pod: 1, kind: "up" },
      ],
    });
    const { outcome, told } = await recorded(scenario, draw(scenario));
    const summary = outcome.summary(2);
    expect(summary.lost).toBe(0);
    expect(summary.brokenOff).toBeGreaterThan(0);
    expect(summary.refused).toBeGreaterThan(0);
    const messages = told[0] ?? [];
    expect(ofOp(messages, "pod").map(({ t, pod, state }) => [t, pod, state])).toEqual([
      [11, "p0", "gone"],
      [20.1, "p1", "draining"],
      [25.1, "p0", "ready"],
      [30.1, "p1", "ready"],
    ]);
    const refused = ofOp(messages, "refused")[0];
    const again = ofOp(messages, "route").find(
      ({ id, t }) => id === refused?.id && t > (refused?.t ?? 0),
    );
    expect(again?.exclude).toEqual([refused?.pod]);
    expect((again?.t ?? 0) - (refused?.t ?? 0)).toBeCloseTo(0.05, 9);
  });

  it("asks again after 250 ms for what is held", async () => {
    const scenario = worldOf();
    const asked: number[] = [];
    const router: SimulatedRouter = {
      handle: (message) => {
        if (message.op !== "route") return null;
        asked.push(message.t);
        return { pod: asked.length > 3 ? "p2" : null };
      },
    };
    const request = { ...at(1), atSeconds: 1 };
    const { outcome } = await recorded(scenario, [request], () => router);
    expect(asked).toEqual([1, 1.25, 1.5, 1.75]);
    expect(outcome.summary(2)).toMatchObject({ heldRequests: 1, lost: 0 });
    expect(outcome.ttftSeconds[0]).toBeGreaterThan(0.75);
  });

  it("decodes on decode pods what prefill pods have computed", async () => {
    const roles = (["prefill", "prefill", "decode", "decode"] as const).map((role) => ({
      ...{ role, speed: 1 },
    }));
    const scenario = worldOf({ pods: roles });
    const { outcome, told, truth } = await recorded(scenario, draw(scenario));
    expect(outcome.summary(2).lost).toBe(0);
    const progressAt = new Set(ofOp(told[0] ?? [], "progress").map(({ pod }) => pod));
    expect([...progressAt].sort()).toEqual(["p2", "p3"]);
    for (const { pod } of truth.hosts) expect(pod.cache.usage).toBe(0);
  });

  it("gives a share to the other replicas after 5 ms, and a request's end to its own", async () => {
    const scenario = worldOf({ replicas: 2 });
    const shares: number[] = [];
    const create = (replica: number): SimulatedRouter => ({
      handle: (message) => {
        if (message.op !== "route") return null;
        shares.push(message.t);
        return { pod: "p0", share: `${replica} ${message.id}` };
      },
    });
    const { told } = await recorded(scenario, [at(1), at(2), at(3), at(4)], create);
    for (const [replica, messages] of told.entries()) {
      const own = ofOp(messages, "route").map(({ id }) => id);
      expect(ofOp(messages, "finish").map(({ id }) => id)).toEqual(own);
      for (const { t, share } of ofOp(messages, "peer")) {
        expect(share.startsWith(String(replica))).toBe(false);
        expect(shares.map((sent) => sent + 0.005)).toContain(t);
      }
    }
    expect(told.flatMap((messages) => ofOp(messages, "peer")).length).toBe(4);
    const blind = await recorded({ ...scenario, isGossipOn: false }, [at(1)], create);
    expect(blind.told.flatMap((messages) => ofOp(messages, "peer"))).toEqual([]);
  });

  it("gives up on a router that never answers with a pod", async () => {
    const { outcome } = await recorded(worldOf({ scrapeSeconds: 600 }), [at(1)], () => ({
      handle: () => null,
    }));
    expect(outcome.summary(2)).toMatchObject({ requests: 1, lost: 1 });
  });
});

describe("a router in a process beside", () => {
  const CHILD = `
    const lines = require("node:readline").createInterface({ input: process.stdin });
    const say = (json) => process.stdout.write(JSON.stringify(json) + String.fromCharCode(10));
    let pods = [];
    lines.on("line", (line) => {
      const message = JSON.parse(line);
      if (message.op === "init") { pods = message.pods; say({ ok: true }); }
      if (message.op === "route") say({ pod: pods[message.id % pods.length].id });
      if (message.op === "end") process.exit(0);
    });`;
  const command = (script: string): string =>
    `${JSON.stringify(process.execPath)} -e ${JSON.stringify(script.replaceAll("\n", " "))}`;

  it("gives what the same router gives in process", async () => {
    const scenario = worldOf();
    const requests = draw(scenario);
    const inProcess = await recorded(scenario, requests, () => ({
      handle: (message) =>
        message.op === "route"
          ? { pod: `p${(message as RouteMessage & { id: number }).id % 4}` }
          : null,
    }));
    const beside = new Simulation(scenario, requests, {
      createLink: () => new ProcessRouterLink(command(CHILD), nodeClock),
    });
    expect(await beside.run()).toEqual(inProcess.outcome);
  });

  it("fails with its command when it ends, or says what is no answer", async () => {
    const run = (script: string): Promise<SimOutcome> =>
      new Simulation(worldOf(), [at(1)], {
        createLink: () => new ProcessRouterLink(command(script), nodeClock),
      }).run();
    await expect(run("process.exit(3)")).rejects.toMatchObject({ code: "ERR_PROCESS_FAILED" });
    await expect(run("process.exit(3)")).rejects.toThrow("ended with 3");
    const nonsense = CHILD.replace("say({ pod: ", "say({ pud: ");
    await expect(run(nonsense)).rejects.toThrow("its answer to route 0 is none");
  });
});

function at(index: number): SimRequest {
  return {
    atSeconds: index * 0.1,
    session: `s${index}`,
    inputTokens: 600,
    outputTokens: 5,
    blocks: [index],
    answerBlocks: [],
  };
}
