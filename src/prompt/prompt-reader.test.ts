import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type EndpointId, endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { promptConfigSchema } from "./config.ts";
import { engineRules } from "./engine-rules.ts";
import { PromptReader, type PromptReading } from "./prompt-reader.ts";
import { TokenMemo } from "./token-memo.ts";
import { startTokenizer } from "./tokenizer-choice.ts";

const NEVER = new AbortController().signal;
let answer: { status: number; body: string };
const asked: unknown[] = [];
const askedPaths: (string | undefined)[] = [];
const server = http.createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    askedPaths.push(request.url);
    asked.push(JSON.parse(Buffer.concat(chunks).toString()));
    response.writeHead(answer.status).end(answer.body);
  });
});

async function reader(
  config: object = {},
  hasEngine = true,
  before: readonly EndpointId[] = [],
): Promise<PromptReader> {
  const { port } = server.address() as AddressInfo;
  const own = endpointId(`127.0.0.1:${port}`);
  const prompt = promptConfigSchema.parse(config);
  const chosen = await startTokenizer(prompt, {
    engines: () => (hasEngine ? [...before, own] : []),
    ...{ clock: nodeClock, log: silentLog },
  });
  return new PromptReader({
    tokensMax: prompt.tokensMax,
    model: "base",
    rules: engineRules(prompt),
    hasher: await createBlockHasher(0),
    tokenizer: chosen.tokenizer,
    meter: silentMeter,
  });
}

const read = (
  prompts: PromptReader,
  path: string,
  requestBody: Uint8Array,
  signal = NEVER,
): Promise<PromptReading> => prompts.read({ path, headers: new Map(), body: requestBody }, signal);

const body = (fields: object): Uint8Array => Buffer.from(JSON.stringify(fields));
const text = (prompt: string, model = "base"): Uint8Array => body({ model, prompt });

beforeAll(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)));
afterAll(() => server.close());
beforeEach(() => {
  answer = { status: 200, body: JSON.stringify({ count: 3, tokens: [5, 6, 7] }) };
  asked.length = 0;
  askedPaths.length = 0;
});

describe("prompt reader", () => {
  it("takes given token ids as they are, up to its limit, and counts them all", async () => {
    const prompts = await reader({ tokensMax: 16 });
    const tokens = Array.from({ length: 40 }, (_, position) => position);
    const reading = await read(prompts, "/v1/completions", body({ prompt: tokens }), NEVER);
    expect(reading).toMatchObject({ source: "given", inputTokens: 40, lora: null });
    expect(reading.tokens).toEqual(Uint32Array.from(tokens.slice(0, 16)));
    expect(prompts.keyed(reading).keysOf(16)).toHaveLength(1);
  });

  it("asks an engine for the ids of a text once, and remembers them", async () => {
    const prompts = await reader();
    const first = await read(prompts, "/v1/completions", text("hello"), NEVER);
    const again = await read(prompts, "/v1/completions", text("hello"), NEVER);
    expect(asked).toEqual([{ model: "base", prompt: "hello" }]);
    expect([first.source, again.source]).toEqual(["engine", "memo"]);
    expect(again.tokens).toEqual(Uint32Array.from([5, 6, 7]));
  });

  it("keys the longest prompt of a batch, and counts them all", async () => {
    const prompts = await reader();
    const ids = await read(
      prompts,
      "/v1/completions",
      body({
        prompt: [
          [1, 2],
          [3, 4, 5],
        ],
      }),
    );
    expect(ids).toMatchObject({ prompts: 2, inputTokens: 5, tokens: Uint32Array.from([3, 4, 5]) });
    const texts = await read(prompts, "/v1/completions", body({ prompt: ["abc", "abcdef"] }));
    expect(asked).toEqual([{ model: "base", prompt: "abcdef" }]);
    expect(texts).toMatchObject({ prompts: 2, source: "engine", inputTokens: 5 });
  });

  it("lets an engine render a request where it is asked to, and where there are documents", async () => {
    const rendering = await reader({ tokenize: "render" });
    answer.body = JSON.stringify({ token_ids: [5, 6], features: null });
    const messages = [{ role: "user", content: "hi" }];
    const chat = body({ messages, temperature: 0 });
    const reading = await read(rendering, "/v1/chat/completions", chat);
    expect(reading.tokens).toEqual(Uint32Array.from([5, 6]));
    answer.body = JSON.stringify([{ token_ids: [7] }]);
    const plain = await read(rendering, "/v1/completions", text("hello"));
    expect(plain.tokens).toEqual(Uint32Array.from([7]));
    const withDocuments = body({ messages, documents: [{ text: "x" }] });
    await read(await reader(), "/v1/chat/completions", withDocuments);
    expect(asked).toMatchObject([{ temperature: 0 }, { prompt: "hello" }, { documents: [{}] }]);
    const chats = "/v1/chat/completions/render";
    expect(askedPaths).toEqual([chats, "/v1/completions/render", chats]);
    answer.body = JSON.stringify({ token_ids: [5], features: { mm_hashes: {} } });
    const image = await read(
      rendering,
      "/v1/chat/completions",
      body({ messages, n: 2, tools: [1] }),
    );
    expect(image.reason).toBe("engine-answer");
  });

  it("says what the headers and the body ask for", async () => {
    const headers = new Map([["x-gateway-inference-objective", "gold"]]);
    const request = { path: "/v1/completions", headers, body: body({ prompt: [1], priority: -1 }) };
    const reading = await (await reader()).read(request, NEVER);
    expect(reading).toMatchObject({ priority: -1, traits: { objective: "gold" } });
  });

  it("asks for a chat with the fields of its template", async () => {
    const prompts = await reader();
    const messages = [{ role: "user", content: "hi" }];
    const chat = body({ model: "adapter", messages, temperature: 0 });
    const reading = await read(prompts, "/v1/chat/completions", chat, NEVER);
    expect(asked).toEqual([{ model: "adapter", messages }]);
    expect(reading).toMatchObject({ source: "engine", lora: "adapter" });
  });

  it("gives an adapter's and a salted prompt keys of their own", async () => {
    const prompts = await reader();
    const tokens = Array.from({ length: 16 }, (_, position) => position);
    const keyOf = async (fields: object): Promise<bigint | undefined> => {
      const request = body({ prompt: tokens, ...fields });
      return prompts.keyed(await read(prompts, "/v1/completions", request, NEVER)).keysOf(16)[0];
    };
    const keys = await Promise.all([
      keyOf({ model: "base" }),
      keyOf({ model: "adapter" }),
      keyOf({ model: "base", cache_salt: "tenant" }),
    ]);
    expect(new Set(keys).size).toBe(3);
    expect(await keyOf({})).toBe(keys[0]);
  });

  it("knows SGLang's adapters by what is behind the model's colon, else by lora_path", async () => {
    const loraOf = async (fields: object, engine: "vllm" | "sglang"): Promise<string | null> => {
      const path = "/v1/completions";
      const asked = body({ prompt: [1, 2], ...fields });
      return (await read(await reader({ engine }), path, asked)).lora;
    };
    expect(await loraOf({ model: "base:a", lora_path: "b" }, "sglang")).toBe("a");
    expect(await loraOf({ model: "base", lora_path: "b" }, "sglang")).toBe("b");
    expect(await loraOf({ model: "default" }, "sglang")).toBeNull();
    expect(await loraOf({ model: "default: x " }, "sglang")).toBe("x");
    expect(await loraOf({ lora_path: "b" }, "vllm")).toBe("b");
    expect(await loraOf({ model: "base:a" }, "vllm")).toBe("base:a");
  });

  it("takes the ids that the prefill's engine forwards with a chat, where the engine does", async () => {
    const chatOf = async (ids: unknown, engineVersion: string, content: unknown = "hello") => {
      const asked = { messages: [{ role: "user", content }] };
      const chat = body({ ...asked, kv_transfer_params: { prompt_token_ids: ids } });
      return await read(await reader({ engineVersion }), "/v1/chat/completions", chat);
    };
    const given = { source: "given", tokens: Uint32Array.from([7, 8, 9]) };
    expect(await chatOf([7, 8, 9], "0.33.0")).toMatchObject({ ...given, inputTokens: 3 });
    const others = [
      await chatOf([7, 8, 9], "0.25.1"),
      await chatOf([], "0.33.0"),
      await chatOf([7, -1], "0.33.0"),
      await chatOf("7", "0.33.0"),
      await chatOf([7], "0.33.0", [{ type: "image_url", image_url: { url: "data:," } }]),
    ];
    for (const reading of others) expect(reading.source).not.toBe("given");
  });

  it("asks SGLang for a text's tokens as SGLang makes them, whatever the request says", async () => {
    const fields = { prompt: "a", add_special_tokens: false };
    await read(await reader(), "/v1/completions", body(fields));
    await read(await reader({ engine: "sglang" }), "/v1/completions", body(fields));
    expect(asked).toEqual([
      { model: "base", prompt: "a", add_special_tokens: false },
      { model: "base", prompt: "a" },
    ]);
  });

  it("takes no file for a prompt of as many words", async () => {
    const prompts = await reader();
    const bytes = Buffer.alloc(20_000_000);
    const unread = { tokens: null, inputTokens: 8192 };
    const heard = await read(prompts, "/v1/audio/transcriptions", bytes);
    expect(heard).toMatchObject({ ...unread, reason: "path-unknown" });
    const packed = await read(prompts, "/v1/completions", bytes);
    expect(packed).toMatchObject({ ...unread, reason: "not-json" });
    const image = body({ text: "see", image_data: "QUJD".repeat(100_000) });
    const seen = await read(prompts, "/generate", image);
    expect(seen).toMatchObject({ ...unread, reason: "multimodal" });
    const said = body({ prompt: "a ".repeat(100_000), truncate_prompt_tokens: 7 });
    expect((await read(prompts, "/v1/completions", said)).inputTokens).toBeGreaterThan(50_000);
  });

  it("says why there are no token ids, and estimates the prompt", async () => {
    const reasonOf = async (prompts: PromptReader, signal = NEVER): Promise<string | null> => {
      const reading = await read(prompts, "/v1/completions", text("x".repeat(400)), signal);
      expect(reading).toMatchObject({ source: "none", tokens: null });
      expect(reading.inputTokens).toBeGreaterThan(100);
      return reading.reason;
    };
    expect(await reasonOf(await reader({ tokenize: "off" }))).toBe("tokenize-off");
    expect(await reasonOf(await reader({}, false))).toBe("no-engine");
    expect(await reasonOf(await reader(), AbortSignal.abort())).toBe("engine-unreachable");
    answer = { status: 500, body: "" };
    expect(await reasonOf(await reader())).toBe("engine-refused");
    answer = { status: 200, body: "nonsense" };
    expect(await reasonOf(await reader())).toBe("engine-answer");
    answer = { status: 200, body: JSON.stringify({ tokens: [1, "2"] }) };
    expect(await reasonOf(await reader())).toBe("engine-answer");
  });
});

describe("an engine that refuses a prompt", () => {
  const askedTwice = async (status: number, refusal: object): Promise<unknown[]> => {
    const answers = [
      { status, body: refusal },
      { status: 200, body: { tokens: [1] } },
    ];
    const picky = http.createServer((_, response) => {
      const { status: code, body: said } = answers.shift() ?? { status: 500, body: {} };
      response.writeHead(code).end(JSON.stringify(said));
    });
    await new Promise<void>((resolve) => picky.listen(0, "127.0.0.1", resolve));
    const first = endpointId(`127.0.0.1:${(picky.address() as AddressInfo).port}`);
    const prompts = await reader({}, true, [first]);
    const refused = await read(prompts, "/v1/completions", text("one"));
    const second = await read(prompts, "/v1/completions", text("two"));
    picky.close();
    return [refused.reason, [...(second.tokens ?? [])]];
  };

  it.each([400, 404, 413, 422])("with %i has not failed, and is asked again", async (status) => {
    const error = { object: "error", error: { message: "no such model", code: status } };
    expect(await askedTwice(status, error)).toEqual(["prompt-refused", [1]]);
    expect(asked).toEqual([]);
  });

  it("has failed where it does not have the path", async () => {
    answer = { status: 200, body: JSON.stringify({ tokens: [2] }) };
    expect(await askedTwice(404, { detail: "Not Found" })).toEqual(["engine-refused", [2]]);
  });
});

describe("an engine that fails to tokenise", () => {
  it("is not asked again for a while when there is another", async () => {
    const mute = http.createServer(() => {});
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    const hung = endpointId(`127.0.0.1:${(mute.address() as AddressInfo).port}`);
    const prompts = await reader({}, true, [hung]);
    const first = await read(prompts, "/v1/completions", text("one"), AbortSignal.timeout(50));
    const second = await read(prompts, "/v1/completions", text("two"), NEVER);
    mute.closeAllConnections();
    mute.close();
    expect([first.reason, second.source]).toEqual(["engine-unreachable", "engine"]);
  });

  it("is asked again where it was the client who gave up", async () => {
    let asked = 0;
    const client = new AbortController();
    const slow = http.createServer((_, response) => {
      asked += 1;
      if (asked === 1) client.abort();
      else response.setHeader("content-type", "application/json").end('{"tokens":[7]}');
    });
    await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
    const { port } = slow.address() as AddressInfo;
    const prompts = await reader({}, true, [endpointId(`127.0.0.1:${port}`)]);
    const first = await read(prompts, "/v1/completions", text("one"), client.signal);
    const second = await read(prompts, "/v1/completions", text("two"), NEVER);
    slow.closeAllConnections();
    slow.close();
    expect([first.source, [...(second.tokens ?? [])]]).toEqual(["none", [7]]);
    expect(asked).toBe(2);
  });
});

it("a chat nested deeper than it can be written is routed by load", async () => {
  const deep = `{"messages":[{"role":"user","content":"x","y":${"[".repeat(150_000)}${"]".repeat(150_000)}}]}`;
  const reading = await read(await reader(), "/v1/chat/completions", Buffer.from(deep));
  expect(reading).toMatchObject({ source: "none", tokens: null });
  expect(["too-deep", "not-json"]).toContain(reading.reason);
});

describe("token memo", () => {
  it("drops the least recently used entry beyond its bytes", () => {
    const memo = new TokenMemo(2 * (4 + 256));
    const ids = Uint32Array.from([1]);
    memo.set("a", ids);
    memo.set("b", ids);
    memo.get("a");
    memo.set("c", ids);
    expect([memo.get("a"), memo.get("b"), memo.get("c")]).toEqual([ids, null, ids]);
  });
});

describe("chunks of text", () => {
  const chunkKeys = (prompts: PromptReader, path: string, fields: object): bigint[] => {
    const parsed = prompts.parse({ path, headers: new Map(), body: body(fields) });
    return [...prompts.chunkKeysOf(parsed)];
  };
  const said = (content: unknown): object => ({ role: "user", content });

  it("begin alike where chats do: with another turn, in another form of body, not with other tools", async () => {
    const prompts = await reader();
    const path = "/v1/chat/completions";
    const messages = [said("a".repeat(5000)), said("\u00e9".repeat(5000))];
    const first = chunkKeys(prompts, path, { model: "base", messages });
    // 15,000 bytes of UTF-8 and the names between them.
    expect(first.length).toBeGreaterThanOrEqual(Math.floor(15_000 / 512));
    const next = { messages: [...messages, said("b".repeat(600))], stream: true };
    expect(chunkKeys(prompts, path, next).slice(0, first.length)).toEqual(first);
    const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
    expect(chunkKeys(prompts, path, { messages, tools })[0]).not.toBe(first[0]);
    expect(chunkKeys(prompts, path, { messages, model: "lora" })[0]).not.toBe(first[0]);
    const other = [said("a".repeat(5000)), said(`x${"\u00e9".repeat(4999)}`)];
    const shared = chunkKeys(prompts, path, { messages: other }).filter(
      (key, at) => key === first[at],
    );
    expect(shared.length).toBe(Math.floor(5000 / 512));
  });

  it("of a chat with images begin alike with the next turn, each image as 1,024 tokens", async () => {
    const prompts = await reader();
    const path = "/v1/chat/completions";
    const image = (seed: string): object => ({
      ...{ type: "image_url" },
      image_url: { url: `data:image/png;base64,${seed.repeat(300_000)}` },
    });
    const asked = said([{ type: "text", text: "a".repeat(4000) }, image("QUJD")]);
    const first = chunkKeys(prompts, path, { messages: [asked] });
    const turn = { messages: [asked, said("b".repeat(600))] };
    expect(chunkKeys(prompts, path, turn).slice(0, first.length)).toEqual(first);
    const other = said([{ type: "text", text: "a".repeat(4000) }, image("REVG")]);
    const shared = chunkKeys(prompts, path, { messages: [other] }).filter(
      (key, at) => key === first[at],
    );
    // The text, and what is before the image's own bytes.
    expect(shared.length).toBe(Math.floor(4100 / 512));
    const reading = await read(prompts, path, body({ messages: [asked] }));
    expect(reading).toMatchObject({ source: "none", reason: "multimodal", tokens: null });
    expect(reading.inputTokens).toBeGreaterThanOrEqual(2024);
    expect(reading.inputTokens).toBeLessThan(2100);
    const short = { type: "image_url", image_url: { url: "http://x/y.png" } };
    const small = await read(prompts, path, body({ messages: [said([short])] }));
    expect(small.inputTokens).toBeGreaterThanOrEqual(1024);
  });

  it("are of text only, of its first MiB, and of whatever JSON there is", async () => {
    const prompts = await reader();
    const path = "/v1/completions";
    expect(chunkKeys(prompts, path, { prompt: [1, 2, 3] })).toEqual([]);
    expect(chunkKeys(prompts, path, { prompt: "short" })).toEqual([]);
    expect(chunkKeys(prompts, path, { prompt: "a".repeat(2_000_000) })).toHaveLength(2048);
    expect(chunkKeys(await reader({ tokenize: "off" }), path, { prompt: "a".repeat(600) })).toEqual(
      [],
    );
    const deep = Buffer.from(
      `{"messages":[{"role":"user","content":"a","x":${"[".repeat(9000)}${"]".repeat(9000)}}]}`,
    );
    const request = { path: "/v1/chat/completions", headers: new Map(), body: deep };
    expect(() => prompts.chunkKeysOf(prompts.parse(request))).not.toThrow();
  });
});
