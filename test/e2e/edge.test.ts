/** What must not break the Envoy edge: size, speed, bad input, an empty fleet, an end. */
import { randomInt } from "node:crypto";
import http from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requireBinary } from "../harness/binaries.ts";
import { promptOf, Stack } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const REQUESTS = 20_000;
const CONNECTIONS = 64;
const envoy = await requireBinary("envoy");

/** Posts a body on a kept connection; resolves with the status, 0 when the connection broke. */
function post(agent: http.Agent, address: string, body: string): Promise<number> {
  return new Promise((resolve) => {
    const [host, port] = address.split(":");
    const options = { host, port, agent, method: "POST", path: "/v1/completions" };
    const request = http.request(options, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? 0));
      response.on("error", () => resolve(0));
    });
    request.on("error", () => resolve(0));
    request.end(body);
  });
}

describe.skipIf(envoy.isMissing).each([
  ["one thread", 0],
  ["serving threads of its own", 2],
])(`the edge through real Envoy, with %s${envoy.note}`, (_, workers) => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({
      ...{ engines: 3, envoyThreads: workers === 0 ? 1 : 4 },
      config: { extProc: { workers }, prompt: { modelRewrites: { "the-chat": "lab-8b" } } },
      engine: { timeScale: 0, maxModelLen: 2_000_000, gpuBlocks: 100_000 },
    });
  });
  afterAll(() => stack?.stop());

  it("passes a body of 8 MB, as token ids and as text", { timeout: 120_000 }, async () => {
    const ids = Array.from({ length: 1_250_000 }, (_, position) => 100_000 + (position % 20_000));
    const tokens = JSON.stringify({ model: "lab-8b", prompt: ids, max_tokens: 1 });
    expect(tokens.length).toBeGreaterThan(8_000_000);
    expect((await stack.post(stack.address, tokens)).status).toBe(200);
    const text = { model: "lab-8b", prompt: "lorem ipsum ".repeat(700_000), max_tokens: 1 };
    expect((await stack.post(stack.address, text)).status).toBe(200);
  });

  it("answers 20,000 requests at full speed without an error", { timeout: 240_000 }, async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
    const statuses = new Map<number, number>();
    let left = REQUESTS;
    const client = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        const prompt = promptOf(randomInt(50), 64);
        const body = JSON.stringify({ model: "lab-8b", prompt, max_tokens: 1 });
        const status = await post(agent, stack.address, body);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, client));
    agent.destroy();
    expect([...statuses]).toEqual([[200, REQUESTS]]);
  });

  it("tokenises text and chat at an engine, and finds them again by their prefix", async () => {
    const predicted = (): Promise<number> => stack.router.metric("kvatlas_predicted_tokens_total");
    const messages = [{ role: "user", content: "What does a cache hold? ".repeat(60) }];
    const chat = (): Promise<Response> =>
      fetch(`http://${stack.address}/v1/chat/completions`, {
        method: "POST",
        body: JSON.stringify({ model: "lab-8b", messages, max_tokens: 1 }),
      });
    expect((await chat()).status).toBe(200);
    const before = await predicted();
    await waitUntil("the chat's prefix is predicted", async () => {
      expect((await chat()).status).toBe(200);
      return (await predicted()) > before;
    });
    expect(
      await stack.router.metric("kvatlas_prompt_requests_total", 'source="engine"'),
    ).toBeGreaterThan(0);
    expect(
      await stack.router.metric("kvatlas_prompt_requests_total", 'source="memo"'),
    ).toBeGreaterThan(0);
  });

  it("leaves a body that is not JSON to the engine, counts it, and serves the next", async () => {
    const broken = await stack.post(stack.address, '{"prompt": [1, 2');
    expect(broken).toMatchObject({ status: 400, text: expect.stringContaining("BadRequest") });
    expect(await stack.router.metric("kvatlas_prompt_requests_total", "not-json")).toBe(1);
    expect((await stack.complete(promptOf(60, 32))).status).toBe(200);
  });

  it.each(["OPTIONS", "HEAD", "GET"])("leaves %s without a body to the engine", async (method) => {
    const answer = await fetch(`http://${stack.address}/v1/chat/completions`, { method });
    expect(answer.headers.get("x-kvatlas-refused")).toBeNull();
    expect(answer.headers.get("server")).toBe("envoy");
    expect(await stack.router.metric("kvatlas_extproc_refused_total")).toBe(0);
  });

  it("refuses a body over the limit with 413, and serves the next", async () => {
    const answer = await fetch(`http://${stack.address}/v1/completions`, {
      method: "POST",
      body: Buffer.alloc(33_554_433, " "),
    });
    expect(answer.status).toBe(413);
    await answer.arrayBuffer();
    const refused = await stack.router.metric("kvatlas_extproc_refused_total", "body-too-large");
    expect(refused).toBe(1);
    expect((await stack.complete(promptOf(61, 32))).status).toBe(200);
  });

  it("gives the engine another model name where that is asked for", async () => {
    const body = { prompt: promptOf(7, 32), max_tokens: 1 };
    const answerTo = async (model: string, headers = {}): Promise<unknown> => {
      const init = { method: "POST", headers, body: JSON.stringify({ model, ...body }) };
      return await (await fetch(`http://${stack.address}/v1/completions`, init)).json();
    };
    expect(await answerTo("the-chat")).toMatchObject({ model: "lab-8b" });
    expect(await answerTo("another")).not.toMatchObject({ model: "lab-8b" });
    const asked = { "x-llm-d-model-name-rewrite": "lab-8b" };
    expect(await answerTo("another", asked)).toMatchObject({ model: "lab-8b" });
  });

  it("passes other paths with a choice by load", async () => {
    const answer = await fetch(`http://${stack.address}/v1/models`);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ data: [{ id: "lab-8b" }] });
  });

  it("answers 503 when no endpoint is ready", async () => {
    await Promise.all(stack.engines.map((engine) => engine.stop()));
    await waitUntil(
      "the router sees that the engines are gone",
      async () => (await stack.router.metric("kvatlas_endpoint_ready")) === 0,
    );
    const answer = await fetch(`http://${stack.address}/v1/completions`, {
      method: "POST",
      body: JSON.stringify({ model: "lab-8b", prompt: [1, 2, 3] }),
    });
    expect(answer.status).toBe(503);
    expect(await answer.text()).toContain("none of 3 endpoints is ready");
  });
});
