/** One request through the real parts, from its body to the record of its decision. */
import { execFile } from "node:child_process";
import { afterEach, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../../test/harness/recording-meter.ts";
import { configSchema } from "../config/schema.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import type { EndpointSpec } from "../fleet/endpoint.ts";
import { Fleet } from "../fleet/fleet.ts";
import { EvictionBoard } from "../indexer/eviction-board.ts";
import { InflightBlocks } from "../indexer/inflight-blocks.ts";
import { Residency } from "../indexer/residency.ts";
import { HttpAdmin } from "../observe/http-admin.ts";
import type { PromptTokenizer } from "../prompt/prompt-tokenizer.ts";
import { adminRoutes } from "./admin-routes.ts";
import { createReadSide, type ReadSide } from "./read-side.ts";

const MODEL = "m";
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

interface Router extends ReadSide {
  readonly fleet: Fleet;
  readonly residency: Residency;
  readonly meter: RecordingMeter;
}

async function routerOf(
  specs: readonly EndpointSpec[],
  tokenizer: PromptTokenizer | null = null,
): Promise<Router> {
  const meter = recordingMeter();
  const ports = { clock: nodeClock, log: silentLog, meter };
  const index = new MemoryIndex();
  const residency = new Residency({ index, entriesMax: 100_000 });
  const inflight = new InflightBlocks();
  const fleet = new Fleet({ ...ports, blocks: inflight });
  fleet.apply(specs);
  const nothingHeard = { factsOf: () => null, heardMsOf: () => null, resync: () => false };
  const events = { ...nothingHeard, reconcile: (): void => {} };
  const readSide = await createReadSide(configSchema.parse({ model: MODEL }), {
    ...{ ...ports, tokenizer, random: seededRandom(1), onDispatch: (): void => {} },
    ...{ evictions: new EvictionBoard(), followed: { fleet, inflight } },
    writeSide: { index, holders: residency, events },
  });
  return { ...readSide, fleet, residency, meter };
}

const NEVER = new AbortController().signal;
const requestOf = (
  requestId: string,
  fields: object,
  headers: Readonly<Record<string, string>> = {},
): Parameters<ReadSide["picker"]["pickByLoad"]>[0] => ({
  ...{ requestId, method: "POST", path: "/v1/completions", subset: null },
  headers: new Map(Object.entries(headers)),
  body: Buffer.from(JSON.stringify({ model: MODEL, ...fields })),
});

/** `kvatlas why` as a user runs it, against the router's admin routes. */
async function why(router: Router, id: string, form: "table" | "json"): Promise<string> {
  const admin = new HttpAdmin({
    ...{ log: silentLog, readyChecks: () => [] },
    metrics: () => Promise.resolve({ contentType: "text/plain", body: "" }),
    routes: adminRoutes({ ...router, pods: router.pods.report }),
  });
  const url = `http://${await admin.start("127.0.0.1:0")}`;
  stops.push(() => admin.stop());
  const main = new URL("../cli/main.ts", import.meta.url).pathname;
  const args = [main, "why", id, "--url", url, "--output", form];
  return await new Promise((resolve) =>
    execFile(process.execPath, args, (_, stdout, stderr) => resolve(stdout + stderr)),
  );
}

it.each([
  ["present", "x-llm-d-inference-objective", "x-llm-d-inference-fairness-id", "x-llm-d-slo-"],
  ["former", "x-gateway-inference-objective", "x-gateway-inference-fairness-id", "x-slo-"],
])(
  "keeps priority, fairness and SLO under their %s names, and why tells them",
  async (...names) => {
    const [, objective, fairness, slo] = names;
    const router = await routerOf([specOf("10.0.0.1:8000")]);
    const headers = {
      ...{ [objective]: "batch", [fairness]: "team-a" },
      ...{ [`${slo}ttft-ms`]: "250", [`${slo}tpot-ms`]: "40" },
    };
    const request = requestOf("r1", { prompt: [1, 2, 3], priority: 7 }, headers);
    await router.picker.pick(request, NEVER, () => {});
    const wishes = {
      ...{ priority: 7, objective: "batch", fairnessId: "team-a" },
      ...{ ttftSloMs: 250, tpotSloMs: 40 },
    };
    expect(router.decisions.find("r1")).toMatchObject({ wishes });
    expect(JSON.parse(await why(router, "r1", "json"))).toMatchObject({ wishes });
    expect(await why(router, "r1", "table")).toContain(
      "priority 7, objective batch, fairnessId team-a, ttftSloMs 250, tpotSloMs 40\n",
    );
    // By load alone the body was not read; the headers say what they say.
    router.picker.pickByLoad({ ...request, requestId: "r2" });
    expect(router.decisions.find("r2")).toMatchObject({ wishes: { ...wishes, priority: null } });
  },
);

it("sends a split request to its decode endpoint, and takes its answer from there for no fault", async () => {
  const prefill = specOf("10.0.0.1:8000", { role: "prefill" });
  const decode = specOf("10.0.0.2:8000", { role: "decode" });
  const { picker, fleet, decisions } = await routerOf([prefill, decode]);
  const request = requestOf("r1", { prompt: [1, 2, 3] });
  const route = { kind: "route", endpointId: decode.id, prefillId: prefill.id };
  expect(await picker.pick(request, NEVER, () => {})).toEqual(route);
  expect(picker.pickByLoad({ ...request, requestId: "r2" })).toEqual(route);
  expect(decisions.find("r1")).toMatchObject({ decodeEndpoint: decode.id });
  picker.responseStarted("r1", 200, decode.id);
  picker.firstByte("r1");
  const nowMs = nodeClock.nowMs();
  expect(fleet.endpoint(prefill.id)?.faults.weight(nowMs)).toBe(0);
  expect(fleet.ledger.load(prefill.id).waiting).toBe(1);
  expect(fleet.ledger.load(decode.id).pairedRequests).toBe(2);
  // A gateway's retry: another decode endpoint serves it; it is prefilled where it was.
  picker.responseStarted("r2", 200, "10.0.0.3:8000");
  expect(fleet.ledger.endpointOf("r2")).toBe(prefill.id);
  expect(fleet.ledger.destinationOf("r2")).toBe("10.0.0.3:8000");
});

it("names no prefill endpoint for a retry of a whole request", async () => {
  const specs = [
    specOf("10.0.0.1:8000"),
    specOf("10.0.0.2:8000", { role: "prefill" }),
    specOf("10.0.0.3:8000", { role: "decode" }),
  ];
  const { picker } = await routerOf(specs);
  const outcomes = Array.from({ length: 8 }, (_, number) =>
    picker.pickByLoad(requestOf(`r${number}`, { prompt: [1, 2, 3] })),
  );
  const routes = outcomes.flatMap((each) => (each.kind === "route" ? [each] : []));
  expect(routes).toHaveLength(8);
  for (const { endpointId, prefillId, fallbackId } of routes) {
    expect(fallbackId).toBeUndefined();
    expect(endpointId).toBe(prefillId === undefined ? "10.0.0.1:8000" : "10.0.0.3:8000");
  }
  expect(new Set(routes.map(({ prefillId }) => prefillId))).toEqual(
    new Set([undefined, "10.0.0.2:8000"]),
  );
});
