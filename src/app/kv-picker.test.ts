/** One request through the real parts, from its body to the record of its decision. */
import { execFile } from "node:child_process";
import { afterEach, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import { JumpClock } from "../../test/harness/jump-clock.ts";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../../test/harness/recording-meter.ts";
import { configSchema } from "../config/schema.ts";
import type { EndpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { ok, refused } from "../core/result.ts";
import type { PickOutcome, PickRequest } from "../extproc/picker.ts";
import type { EndpointSpec } from "../fleet/endpoint.ts";
import { Fleet } from "../fleet/fleet.ts";
import { EvictionBoard } from "../indexer/eviction-board.ts";
import { InflightBlocks } from "../indexer/inflight-blocks.ts";
import { Residency } from "../indexer/residency.ts";
import { HttpAdmin } from "../observe/http-admin.ts";
import type { PromptTokenizer, TokenizeRequest } from "../prompt/prompt-tokenizer.ts";
import { adminRoutes } from "./admin-routes.ts";
import { createReadSide, type ReadSide } from "./read-side.ts";

const MODEL = "m";
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

interface Router extends ReadSide {
  readonly clock: JumpClock;
  readonly fleet: Fleet;
  readonly residency: Residency;
  readonly meter: RecordingMeter;
}

async function routerOf(
  specs: readonly EndpointSpec[],
  tokenizer: PromptTokenizer | null = null,
): Promise<Router> {
  const meter = recordingMeter();
  const clock = new JumpClock();
  const ports = { clock, log: silentLog, meter };
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
  return { ...readSide, clock, fleet, residency, meter };
}

const NEVER = new AbortController().signal;
const requestOf = (
  requestId: string,
  fields: object,
  headers: Readonly<Record<string, string>> = {},
): PickRequest => ({
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

it.each([
  ["no body, as a browser's preflight", ""],
  ["what JSON.parse does not take and an engine does", '{"prompt": [1], "temperature": NaN}'],
  ["a compressed body", "\u001f\u008b\b"],
])("routes %s by load, for the engine to answer", async (_, body) => {
  const { picker, meter } = await routerOf([specOf("10.0.0.1:8000")]);
  const request = { ...requestOf("r1", {}), body: Buffer.from(body, "latin1") };
  expect(await picker.pick(request, NEVER, () => {})).toMatchObject({ kind: "route" });
  expect(meter.total("kvatlas_prompt_requests_total", { source: "none" })).toBe(1);
});

it("gives the request the model's name that a header asks for, in its body and for its keys", async () => {
  const { picker } = await routerOf([specOf("10.0.0.1:8000")]);
  const headers = { "x-gateway-model-name-rewrite": "adapter" };
  const request = requestOf("r1", { prompt: [1, 2, 3] }, headers);
  const body = Buffer.from('{"model":"adapter","prompt":[1,2,3]}');
  expect(await picker.pick(request, NEVER, () => {})).toMatchObject({ kind: "route", body });
  expect(picker.pickByLoad({ ...request, requestId: "r2" })).toMatchObject({ body });
});

it("takes a request for prefilled in time whose answer comes only when it is whole", async () => {
  const spec = specOf("10.0.0.1:8000");
  const { picker, fleet, clock } = await routerOf([spec]);
  const prompt = Array.from({ length: 1000 }, (_, i) => i);
  await picker.pick(requestOf("whole", { prompt, max_tokens: 500 }), NEVER, () => {});
  await picker.pick(requestOf("streamed", { prompt, stream: true }), NEVER, () => {});
  clock.jump(10_000);
  fleet.view(clock.nowMs());
  expect(fleet.ledger.load(spec.id)).toMatchObject({ waiting: 1, decoding: 1 });
});

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

/** A tokenizer of one token a character, while it works. */
class Letters implements PromptTokenizer {
  state: "works" | "is-late" | "is-broken" = "works";
  tokenize(
    { prompt }: TokenizeRequest,
    signal: AbortSignal,
  ): ReturnType<PromptTokenizer["tokenize"]> {
    if (this.state === "is-broken") return Promise.resolve(refused("tokenizer-failed", "broken"));
    const text = prompt.kind === "text" ? prompt.text : JSON.stringify(prompt.chat);
    const tokens = Uint32Array.from(text, (letter) => letter.codePointAt(0) ?? 0);
    const made = ok({ source: "local", tokens, segments: 1, segmentsKnown: 0 } as const);
    if (this.state === "works") return Promise.resolve(made);
    return new Promise((resolve) => signal.addEventListener("abort", () => resolve(made)));
  }
}

const PODS = Array.from({ length: 5 }, (_, pod) => `10.0.0.${pod + 1}:8000`);
/** Their engines are heard, and have said all. */
const heardPods = PODS.map((address) =>
  specOf(address, {
    kvEvents: { address: "tcp://127.0.0.1:1", replay: null, topic: "", ranks: 1, engine: "vllm" },
  }),
);

async function textRouter(): Promise<Router & { readonly letters: Letters }> {
  const letters = new Letters();
  const router = await routerOf(heardPods, letters);
  for (const { id } of heardPods) {
    router.residency.setCursor(
      { endpointId: id, rank: 0 },
      {
        ...{ state: "EXACT", reason: null, epoch: 1, seq: 1, engineMs: 1 },
        ...{ blockSizesTokens: [16], model: MODEL, ignoredGroups: [] },
      },
    );
  }
  return { ...router, letters };
}

const textOf = (prompt: number): string =>
  Array.from({ length: 800 }, (_, word) => `word${prompt}-${word}`).join(" ");

/** As the edge does it: past the deadline, `pick` is given up and the choice asked for by load. */
async function routed(
  { picker, letters }: Router & { readonly letters: Letters },
  request: PickRequest,
): Promise<EndpointId> {
  const abort = new AbortController();
  const picked = picker.pick(request, abort.signal, () => {});
  let outcome: PickOutcome;
  if (letters.state === "is-late") {
    abort.abort();
    outcome = picker.pickByLoad(request);
    await picked;
  } else outcome = await picked;
  if (outcome.kind !== "route") throw new Error(outcome.reason);
  return outcome.endpointId;
}

function answered({ picker }: Router, requestId: string, cachedTokens: number): void {
  picker.responseStarted(requestId, 200, null);
  picker.firstByte(requestId);
  const usage = { promptTokens: 8000, cachedTokens, completionTokens: 1 };
  picker.ended(requestId, { outcome: "complete", usage });
}

it("goes by chunks of the text where its tokens are late or missing, and says so", async () => {
  const router = await textRouter();
  const { letters, decisions, meter } = router;
  const places: EndpointId[] = [];
  for (let n = 0; n < 12; n += 1) {
    const id = `first-${n}`;
    places.push(await routed(router, requestOf(id, { prompt: textOf(n) })));
    expect(decisions.find(id)?.matchedBy).toBe("tokens");
    answered(router, id, 0);
  }
  expect(new Set(places).size).toBeGreaterThan(2);
  const predicted = meter.total("kvatlas_predicted_tokens_total");
  for (const [n, place] of places.entries()) {
    letters.state = n % 2 === 0 ? "is-late" : "is-broken";
    const id = `again-${n}`;
    const more = requestOf(id, { prompt: `${textOf(n)} and more` });
    expect(await routed(router, more)).toBe(place);
    const record = decisions.find(id);
    expect(record?.matchedBy).toBe("approximate");
    // All chunks of 512 bytes that are the same, as 128 tokens each.
    expect(record?.chosen.reusedTokens).toBe(Math.floor(textOf(n).length / 512) * 128);
    answered(router, id, 0);
  }
  expect(meter.total("kvatlas_approximate_decisions_total", { reason: "deadline" })).toBe(6);
  const broken = { reason: "tokenizer-failed" };
  expect(meter.total("kvatlas_approximate_decisions_total", broken)).toBe(6);
  expect(meter.total("kvatlas_approximate_tokens_total")).toBeGreaterThan(12 * 128);
  expect(meter.total("kvatlas_predicted_tokens_total")).toBe(predicted);
  expect(await why(router, "again-0", "table")).toContain("\napproximate: ");
});

it("sends a chat with an image where its turn before was answered", async () => {
  const router = await textRouter();
  const picture = { type: "image_url", image_url: { url: "data:image/png;base64,QUJD" } };
  for (let n = 0; n < 8; n += 1) {
    const asked = { role: "user", content: [{ type: "text", text: textOf(n) }, picture] };
    const chat = (id: string, ...turns: object[]): PickRequest => {
      const request = requestOf(id, { messages: [asked, ...turns] });
      return { ...request, path: "/v1/chat/completions" };
    };
    const place = await routed(router, chat(`first-${n}`));
    answered(router, `first-${n}`, 0);
    const next = chat(`next-${n}`, { role: "user", content: "and?" });
    expect(await routed(router, next)).toBe(place);
    expect(router.decisions.find(`next-${n}`)?.chosen.reusedTokens).toBeGreaterThan(1024);
  }
});

it("keeps chunks apart by adapter and salt, for their life and while the endpoint is there", async () => {
  const router = await textRouter();
  const { letters, decisions, clock, fleet } = router;
  const fields = { prompt: textOf(1), cache_salt: "a" };
  await routed(router, requestOf("first", fields));
  answered(router, "first", 0);
  letters.state = "is-late";
  const reused = async (id: string, other: object): Promise<number | undefined> => {
    await routed(router, requestOf(id, { ...fields, ...other }));
    return decisions.find(id)?.chosen.reusedTokens;
  };
  expect(await reused("same", {})).toBeGreaterThan(1000);
  expect(await reused("salt", { cache_salt: "b" })).toBe(0);
  expect(await reused("adapter", { model: "lora" })).toBe(0);
  expect(await reused("other", { prompt: `x${textOf(1)}` })).toBe(0);
  clock.jump(120_000);
  expect(await reused("old", {})).toBe(0);

  letters.state = "works";
  const place = await routed(router, requestOf("again", fields));
  answered(router, "again", 0);
  router.pods.watch.look();
  router.pods.watch.report();
  const labels = { endpoint: place };
  expect(router.meter.value("kvatlas_assumed_chunks", labels)).toBeGreaterThan(10);
  fleet.apply(heardPods.filter(({ id }) => id !== place));
  router.pods.watch.look();
  expect(router.pods.knowledge.chunks.blocksOf(place)).toBe(0);
});

it("never holds a guess by chunks against what engines deliver", async () => {
  const router = await textRouter();
  const { letters, clock, meter, pods } = router;
  const judged = (): number => {
    clock.jump(3000);
    pods.watch.look();
    return meter.total("kvatlas_audit_samples_total");
  };
  const request = { prompt: textOf(1) };
  const first = await routed(router, requestOf("first", request));
  answered(router, "first", 0);
  expect(judged()).toBe(1);
  const owed = (): unknown =>
    pods.knowledge.expected.silence(first, { heardMs: () => null, nowMs: 1e9 });
  const owedBefore = owed();
  letters.state = "is-late";
  for (let n = 0; n < 30; n += 1) {
    expect(await routed(router, requestOf(`late-${n}`, request))).toBe(first);
    answered(router, `late-${n}`, 0);
    expect(owed()).toEqual(owedBefore);
  }
  expect(judged()).toBe(1);
  letters.state = "works";
  await routed(router, requestOf("last", request));
  answered(router, "last", 0);
  expect(judged()).toBe(2);
});

it("keeps the keys of what it booked, whatever prompts are matched after it", async () => {
  const { picker, decisions, fleet } = await routerOf([specOf("10.0.0.1:8000")]);
  const tokensOf = (seed: number): number[] => Array.from({ length: 160 }, (_, at) => seed + at);
  for (const number of [1, 2, 3]) {
    const request = requestOf(`r${number}`, { prompt: tokensOf(1000 * number) });
    await picker.pick(request, NEVER, () => {});
  }
  for (const id of ["r3", "r1", "r2"]) {
    picker.responseStarted(id, 200, null);
    picker.ended(id, { outcome: "complete", usage: null });
  }
  expect(fleet.view(0).endpoints[0]?.load).toMatchObject({ requests: 0, blockTokens: 0 });
  // No events are heard: what was answered is assumed.
  for (const number of [1, 2, 3]) {
    const request = requestOf(`again${number}`, { prompt: tokensOf(1000 * number) });
    await picker.pick(request, NEVER, () => {});
    const record = decisions.find(`again${number}`);
    expect(record?.chosen.reusedTokens).toBe(159);
  }
});
