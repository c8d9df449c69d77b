import { request as httpRequest } from "node:http";
import { decode } from "@msgpack/msgpack";
import { afterEach, describe, expect, it } from "vitest";
import { Subscriber } from "zeromq";
import { nodeClock } from "../../core/node-clock.ts";
import { type LabEngine, startLabEngine } from "./engine.ts";
import type { LabEngineOptions } from "./engine-options.ts";

const engines: LabEngine[] = [];
const sockets: Subscriber[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.close();
  for (const engine of engines.splice(0)) await engine.stop();
});

async function start(options: Partial<LabEngineOptions> = {}): Promise<LabEngine> {
  const engine = await startLabEngine({ timeScale: 0, ...options }, { clock: nodeClock });
  engines.push(engine);
  return engine;
}

/** A subscriber of all topics, once the engine knows of it. */
async function subscribe(engine: LabEngine): Promise<Subscriber> {
  const socket = new Subscriber();
  sockets.push(socket);
  socket.subscribe();
  socket.connect(engine.kvEventsAddress);
  while (engine.subscriptions() === 0) await new Promise((resolve) => setImmediate(resolve));
  return socket;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

async function post(engine: LabEngine, path: string, body: unknown): Promise<Answer> {
  const response = await fetch(`http://${engine.address}${path}`, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: response.status, text: await response.text() };
}

async function get(engine: LabEngine, path: string): Promise<string> {
  return (await fetch(`http://${engine.address}${path}`)).text();
}

const PROMPT = Array.from({ length: 40 }, (_, index) => index + 100);

describe("a lab engine over HTTP", () => {
  it("answers completions and reports cached tokens of a repeated prompt", async () => {
    const engine = await start();
    const body = { model: "lab-8b", prompt: PROMPT, max_tokens: 3 };
    const first = JSON.parse((await post(engine, "/v1/completions", body)).text);
    expect(first).toMatchObject({
      object: "text_completion",
      model: "lab-8b",
      choices: [{ index: 0, finish_reason: "length" }],
      usage: {
        prompt_tokens: 40,
        completion_tokens: 3,
        total_tokens: 43,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
    const second = JSON.parse((await post(engine, "/v1/completions", body)).text);
    expect(second.usage.prompt_tokens_details.cached_tokens).toBe(32);
    expect(second.choices[0].text).toBe(first.choices[0].text);
    const list = await post(engine, "/v1/completions", { ...body, prompt: [PROMPT] });
    expect(JSON.parse(list.text).usage.prompt_tokens_details.cached_tokens).toBe(32);
  });

  it("streams chat in the order role, tokens, usage, end", async () => {
    const engine = await start();
    const { status, text } = await post(engine, "/v1/chat/completions", {
      messages: [{ role: "user", content: [{ type: "text", text: "hello" }] }],
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: 2,
    });
    expect(status).toBe(200);
    const events = text.trim().split("\n\n");
    expect(events.at(-1)).toBe("data: [DONE]");
    const chunks = events.slice(0, -1).map((event) => JSON.parse(event.slice("data: ".length)));
    expect(chunks.map(({ choices }) => choices[0]?.finish_reason)).toEqual([
      null,
      null,
      "length",
      undefined,
    ]);
    expect(chunks[0].choices[0].delta.role).toBe("assistant");
    expect(chunks[3].usage).toMatchObject({ completion_tokens: 2 });
  });

  it("tokenizes as it does for a request", async () => {
    const engine = await start();
    const messages = [{ role: "user", content: "hello" }];
    const tokenized = JSON.parse((await post(engine, "/tokenize", { messages })).text);
    expect(tokenized.tokens).toHaveLength(tokenized.count);
    expect(tokenized.max_model_len).toBe(131_072);
    const chat = await post(engine, "/v1/chat/completions", { messages });
    expect(JSON.parse(chat.text).usage).toMatchObject({
      prompt_tokens: tokenized.count,
      completion_tokens: 16,
    });
    const plain = JSON.parse((await post(engine, "/tokenize", { prompt: "hi" })).text);
    expect(plain.tokens[0]).toBe(128_000);
  });

  it("refuses bad requests in vLLM's form", async () => {
    const engine = await start({
      bodyBytesMax: 4096,
      maxModelLen: 100,
      gpuBlocks: 4,
      loraNames: ["sql"],
    });
    const statusOf = async (body: unknown): Promise<number> =>
      (await post(engine, "/v1/completions", body)).status;
    const missing = await post(engine, "/v1/completions", { model: "x", prompt: "hi" });
    expect(missing.status).toBe(404);
    expect(JSON.parse(missing.text).error).toMatchObject({ type: "NotFoundError", code: 404 });
    const malformed = await post(engine, "/v1/completions", "{");
    expect(malformed.status).toBe(400);
    expect(JSON.parse(malformed.text).error).toMatchObject({ type: "BadRequestError", code: 400 });
    expect(await statusOf({ prompt: "x".repeat(5000) })).toBe(413);
    expect(await statusOf([])).toBe(400);
    expect(await statusOf({})).toBe(400);
    expect(await statusOf({ prompt: [] })).toBe(400);
    expect(await statusOf({ prompt: ["a", "b"] })).toBe(400);
    expect(await statusOf({ prompt: [1, -1] })).toBe(400);
    expect(await statusOf({ prompt: [1, 128_256] })).toBe(400);
    expect(await statusOf({ prompt: "a", max_tokens: 0 })).toBe(400);
    expect(await statusOf({ prompt: "a", max_tokens: 100 })).toBe(400);
    expect(await statusOf({ prompt: PROMPT, max_tokens: 20 })).toBe(400);
    expect(await statusOf({ prompt: "a", cache_salt: "a/b" })).toBe(400);
    expect(await statusOf({ prompt: "a", model: "sql", cache_salt: "a" })).toBe(200);
    expect((await post(engine, "/v1/chat/completions", { messages: [{}] })).status).toBe(400);
    expect((await post(engine, "/nowhere", {})).status).toBe(404);
    expect(engine.stats()).toMatchObject({ requests: 1, finished: 1, running: 0 });
  });

  it("tells its state under vLLM's names", async () => {
    const engine = await start({ gpuBlocks: 50, loraNames: ["sql"] });
    await post(engine, "/v1/completions", { prompt: PROMPT });
    await post(engine, "/v1/completions", { prompt: PROMPT });
    const metrics = await get(engine, "/metrics");
    const label = '{engine="0",model_name="lab-8b"}';
    expect(metrics).toContain(`vllm:num_requests_running${label} 0\n`);
    expect(metrics).toContain(`vllm:kv_cache_usage_perc${label} 0\n`);
    expect(metrics).toContain(`vllm:prefix_cache_queries_total${label} 80\n`);
    expect(metrics).toContain(`vllm:prefix_cache_hits_total${label} 32\n`);
    expect(metrics).toContain(`vllm:generation_tokens_total${label} 32\n`);
    expect(metrics).toMatch(/vllm:cache_config_info\{block_size="16",.*num_gpu_blocks="50"\} 1\n/);
    expect(metrics).toMatch(/time_to_first_token_seconds_bucket\{le="\+Inf",.*\} 2\n/);
    expect(JSON.parse(await get(engine, "/v1/models")).data).toMatchObject([
      { id: "lab-8b", parent: null },
      { id: "sql", parent: "lab-8b" },
    ]);
    // 3 blocks of prompt and output; of the second request the recomputed third.
    expect(JSON.parse(await get(engine, "/lab/blocks"))).toMatchObject({
      usableBlocks: 49,
      referencedBlocks: 0,
      cachedBlocks: 4,
      distinctHashes: 3,
    });
    const old = await start({ metricNames: "old" });
    expect(await get(old, "/metrics")).toContain("vllm:gpu_cache_usage_perc{");
  });

  it("aborts a request when its client goes away, and refuses a reset meanwhile", async () => {
    // A step takes an hour: the request runs until it is aborted.
    const engine = await start({ timeScale: 1, stepBaseSeconds: 3600 });
    const client = httpRequest({
      host: "127.0.0.1",
      port: engine.address.split(":")[1],
      path: "/v1/completions",
      method: "POST",
    });
    client.on("error", () => {});
    client.end(JSON.stringify({ prompt: PROMPT, stream: true }));
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    while (engine.stats().running === 0) await turn();
    expect(await post(engine, "/reset_prefix_cache", {})).toMatchObject({
      text: '{"success":false}',
    });
    client.destroy();
    while (engine.stats().running > 0) await turn();
    expect(engine.stats().aborted).toBe(1);
  });

  it("names the port that is taken", async () => {
    const engine = await start();
    const port = Number(engine.address.split(":")[1]);
    await expect(start({ port })).rejects.toMatchObject({ code: "ERR_PORT_IN_USE" });
  });
});

describe("a lab engine over ZMQ", () => {
  it.each(["map", "array"] as const)("publishes what its pool holds (%s)", async (encoding) => {
    const engine = await start({ encoding, gpuBlocks: 24, topic: "kv@pod-1" });
    const socket = await subscribe(engine);
    for (let i = 0; i < 12; i++) {
      const prompt = [...PROMPT, ...PROMPT.map((token) => token + 1000 * (i % 5))];
      await post(engine, "/v1/completions", { prompt });
    }
    engine.evictPrefix(Uint32Array.from(PROMPT));
    const copies = new Map<bigint, number>();
    for (let seq = 0; seq <= engine.publishedSeq(); seq++) {
      const [topic, seqBytes, payload] = await socket.receive();
      expect(topic?.toString()).toBe("kv@pod-1");
      expect(seqBytes?.readBigUInt64BE()).toBe(BigInt(seq));
      const batch = decode(payload ?? [], { useBigInt64: true }) as [number, unknown[], number];
      expect([batch[2], batch[0] > 1_600_000_000]).toEqual([0, true]);
      for (const event of batch[1]) {
        const [tag, hashes] = Object.values(event as object) as [string, bigint[]];
        const by = tag === "BlockStored" ? 1 : -1;
        for (const hash of hashes) copies.set(hash, (copies.get(hash) ?? 0) + by);
      }
    }
    const truth = engine.cachedBlocks();
    expect(truth.length).toBeGreaterThan(0);
    expect(truth.length).toBeLessThanOrEqual(23);
    for (const block of truth) {
      copies.set(block.engineHash, (copies.get(block.engineHash) ?? 0) - 1);
      expect(block.prefixTokens.length % 16).toBe(0);
    }
    expect([...copies.values()].filter((count) => count !== 0)).toEqual([]);
  });

  it("sends a reset with the next batch, and evictions at once", async () => {
    const engine = await start();
    const socket = await subscribe(engine);
    const tagsOf = async (): Promise<string[]> => {
      const payload = (await socket.receive())[2];
      const batch = decode(payload ?? [], { useBigInt64: true }) as [number, { type: string }[]];
      return batch[1].map((event) => event.type);
    };
    const body = { prompt: PROMPT, max_tokens: 1 };
    await post(engine, "/v1/completions", body);
    expect(await tagsOf()).toEqual(["BlockStored"]);
    expect((await post(engine, "/reset_prefix_cache", {})).text).toBe('{"success":true}');
    expect([engine.cachedBlocks().length, engine.publishedSeq()]).toEqual([0, 0]);
    await post(engine, "/v1/completions", body);
    expect(await tagsOf()).toEqual(["AllBlocksCleared", "BlockStored"]);
    expect(engine.cachedBlocks().map(({ prefixTokens }) => [...prefixTokens])).toEqual([
      PROMPT.slice(0, 16),
      PROMPT.slice(0, 32),
    ]);
    expect(engine.evictAll()).toBe(2);
    expect(await tagsOf()).toEqual(["BlockRemoved", "BlockRemoved"]);
    expect(engine.publishedSeq()).toBe(2);
  });
});
