/** One request through the real parts, from its body to the record of its decision. */
import { expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import { NEVER, recordOf, requestOf, routerOf, why } from "../../test/harness/read-side-router.ts";
import { nodeClock } from "../core/node-clock.ts";

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
    expect(recordOf(router, "r1")).toMatchObject({ wishes });
    expect(JSON.parse(await why(router, "r1", "json"))).toMatchObject({ wishes });
    expect(await why(router, "r1", "table")).toContain(
      "priority 7, objective batch, fairnessId team-a, ttftSloMs 250, tpotSloMs 40\n",
    );
    // By load alone the body was not read; the headers say what they say.
    await router.picker.pickByLoad({ ...request, requestId: "r2" });
    expect(recordOf(router, "r2")).toMatchObject({ wishes: { ...wishes, priority: null } });
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
  expect(await picker.pickByLoad({ ...request, requestId: "r2" })).toMatchObject({ body });
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

it("learns nothing from a request that the engine refuses, and counts it no more", async () => {
  const specs = [specOf("10.0.0.1:8000"), specOf("10.0.0.2:8000")];
  const { picker, fleet, clock, meter } = await routerOf(specs);
  const prompt = Array.from({ length: 100_000 }, (_, i) => i);
  for (let n = 0; n < 20; n += 1) {
    const outcome = await picker.pick(
      requestOf(`r${n}`, { prompt, stream: true }),
      NEVER,
      () => {},
    );
    if (outcome.kind !== "route") throw new Error(outcome.message);
    const { endpointId } = outcome;
    picker.responseStarted(`r${n}`, 400, endpointId);
    expect(fleet.ledger.load(endpointId).requests).toBe(0);
    picker.firstByte(`r${n}`);
    picker.ended(`r${n}`, { outcome: "complete", usage: null });
  }
  fleet.view(clock.nowMs());
  for (const { id } of specs) expect(fleet.ledger.load(id)).toMatchObject({ speed: 1, answers: 0 });
  expect(meter.observed("kvatlas_ttft_seconds")).toEqual([]);
});

it.each([
  ["a gateway's error", 503, null, 1],
  ["a gateway's error about the connection", 502, null, 1],
  ["a gateway's timeout", 504, null, 1],
  ["an answer", 200, null, 0],
  ["a body that the engine refuses", 400, null, 0],
  ["a model that it has not", 404, null, 0],
  ["a body that is too long for it", 413, null, 0],
  ["a field that it does not take", 422, null, 0],
  ["an engine's own error", 500, null, 0],
  ["an answer from elsewhere", 200, "10.0.0.9:8000", 1],
] as const)("takes %s for as many faults of the endpoint chosen: %#", async (...answer) => {
  const [, status, servedBy, faults] = answer;
  const spec = specOf("10.0.0.1:8000");
  const { picker, fleet } = await routerOf([spec]);
  await picker.pick(requestOf("r1", { prompt: [1, 2, 3], stream: true }), NEVER, () => {});
  picker.responseStarted("r1", status, servedBy);
  expect(fleet.endpoint(spec.id)?.faults.weight(0)).toBe(faults);
  if (servedBy !== null) expect(fleet.ledger.destinationOf("r1")).toBe(servedBy);
});

it("sends a split request to its decode endpoint, and takes its answer from there for no fault", async () => {
  const prefill = specOf("10.0.0.1:8000", { role: "prefill" });
  const decode = specOf("10.0.0.2:8000", { role: "decode" });
  const router = await routerOf([prefill, decode]);
  const { picker, fleet } = router;
  const request = requestOf("r1", { prompt: [1, 2, 3] });
  const route = { kind: "route", endpointId: decode.id, prefillId: prefill.id };
  expect(await picker.pick(request, NEVER, () => {})).toEqual(route);
  expect(await picker.pickByLoad({ ...request, requestId: "r2" })).toEqual(route);
  expect(recordOf(router, "r1")).toMatchObject({ decodeEndpoint: decode.id });
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
  const outcomes = await Promise.all(
    Array.from({ length: 8 }, (_, number) =>
      picker.pickByLoad(requestOf(`r${number}`, { prompt: [1, 2, 3] })),
    ),
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

it("keeps the keys of what it booked, whatever prompts are matched after it", async () => {
  const router = await routerOf([specOf("10.0.0.1:8000")]);
  const { picker, fleet } = router;
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
    const record = recordOf(router, `again${number}`);
    expect(record?.chosen.reusedTokens).toBe(159);
  }
});
