/** A prompt finds the engine that holds it by whatever API it comes: the real router, lab engines. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requireBinary } from "../harness/binaries.ts";
import { callPicker, destinationOf } from "../harness/ext-proc-call.ts";
import { promptOf, Stack } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const envoyBinary = await requireBinary("envoy");
const ENGINES = 3;
const BLOCKS = 16;
const MODEL = "lab-8b";

type Body = Readonly<Record<string, unknown>>;
/** What an engine is asked, and what else asks for the same prompt. */
interface Case {
  readonly name: string;
  readonly seed: (n: number) => readonly [path: string, body: Body];
  readonly ask: (n: number) => readonly [path: string, body: Body];
}

const idsOf = (n: number): number[] => promptOf(n, BLOCKS * 16);
const textOf = (n: number): string =>
  Array.from({ length: BLOCKS * 20 }, (_, word) => `w${n}-${word}`).join(" ");
const chatOf = (n: number) => [
  { role: "system", content: `You know ${textOf(n)}` },
  { role: "user", content: "What do you know?" },
];
const completed = (n: number): readonly [string, Body] => ["/v1/completions", { prompt: idsOf(n) }];
const written = (n: number): readonly [string, Body] => ["/v1/completions", { prompt: textOf(n) }];
const chatted = (n: number): readonly [string, Body] => [
  "/v1/chat/completions",
  { messages: chatOf(n) },
];

function ofTokens(name: string, path: string, fields: (ids: number[]) => Body): Case {
  return { name, seed: completed, ask: (n) => [path, fields(idsOf(n))] };
}
function ofText(name: string, path: string, fields: (text: string) => Body): Case {
  return { name, seed: written, ask: (n) => [path, fields(textOf(n))] };
}
function ofChat(name: string, path: string, fields: (n: number) => Body): Case {
  return { name, seed: chatted, ask: (n) => [path, fields(n)] };
}

const CASES: readonly Case[] = [
  ofTokens("/v1/completions, token ids", "/v1/completions", (prompt) => ({ prompt })),
  ofTokens("/v1/completions, a batch", "/v1/completions", (ids) => ({ prompt: [[1, 2], ids] })),
  ofText("/v1/completions, text", "/v1/completions", (prompt) => ({ prompt })),
  ofText("/v1/completions, a batch of text", "/v1/completions", (text) => ({
    prompt: ["a", text],
  })),
  ofTokens("/v1/embeddings, token ids", "/v1/embeddings", (input) => ({ input })),
  ofText("/v1/embeddings, text", "/v1/embeddings", (input) => ({ input })),
  ofTokens("/inference/v1/generate", "/inference/v1/generate", (ids) => ({ token_ids: ids })),
  ofTokens("/generate, token ids", "/generate", (ids) => ({ input_ids: ids })),
  ofText("/generate, text", "/generate", (text) => ({ text })),
  ofChat("/v1/chat/completions", "/v1/chat/completions", (n) => ({ messages: chatOf(n) })),
  ofChat("/v1/messages", "/v1/messages", (n) => {
    const [{ content: system } = { content: "" }, ...messages] = chatOf(n);
    return { system, messages, max_tokens: 1 };
  }),
  ofChat("/v1/responses, items", "/v1/responses", (n) => ({ input: chatOf(n) })),
  ofChat("/v1/responses, text", "/v1/responses", (n) => {
    const [system, question] = chatOf(n);
    return { instructions: system?.content, input: question?.content };
  }),
  {
    name: "an adapter's name",
    seed: (n) => ["/v1/completions", { model: "sql", prompt: idsOf(n) }],
    ask: (n) => ["/v1/completions", { model: "sql", prompt: idsOf(n) }],
  },
  {
    name: "a cache salt",
    seed: (n) => ["/v1/completions", { prompt: idsOf(n), cache_salt: "tenant" }],
    ask: (n) => ["/v1/completions", { prompt: idsOf(n), cache_salt: "tenant" }],
  },
];

describe.skipIf(envoyBinary.isMissing)(`a prompt${envoyBinary.note}`, () => {
  let stack: Stack;
  let prompts = 0;

  beforeAll(async () => {
    stack = await Stack.start({
      engines: ENGINES,
      engine: { timeScale: 0, loraNames: ["sql"] },
    });
  });
  afterAll(() => stack?.stop());

  async function seed(engine: number, [path, body]: readonly [string, Body]): Promise<void> {
    const entries = (): Promise<number> => stack.router.metric("kvatlas_index_entries");
    const before = await entries();
    const answer = await fetch(`http://${stack.engines[engine]?.address}${path}`, {
      method: "POST",
      body: JSON.stringify({ model: MODEL, max_tokens: 1, ...body }),
    });
    expect(answer.status).toBe(200);
    await waitUntil("the prompt is in the index", async () => (await entries()) >= before + BLOCKS);
  }

  async function routed([path, body]: readonly [string, Body]): Promise<string | null> {
    const header = (key: string, value: string) => ({ key, raw_value: Buffer.from(value) });
    const headers = [header(":method", "POST"), header(":path", path)];
    const bytes = Buffer.from(JSON.stringify({ model: MODEL, ...body }));
    return destinationOf(
      await callPicker({ address: stack.router.extProcAddress }, [
        { request_headers: { headers: { headers } } },
        { request_body: { body: bytes, end_of_stream: true } },
      ]),
    );
  }

  it.each(CASES)("goes where it is held, by $name", async ({ seed: seedOf, ask }) => {
    for (const [position, engine] of stack.engines.entries()) {
      prompts += 1;
      await seed(position, seedOf(prompts));
      expect(await routed(ask(prompts))).toBe(engine.address);
    }
  });

  it("is another one for another adapter, and with another salt", async () => {
    const path = "/v1/completions";
    prompts += 1;
    const prompt = idsOf(prompts);
    const identities = [{}, { model: "sql" }, { cache_salt: "own" }];
    for (const [engine, identity] of identities.entries()) {
      await seed(engine, [path, { prompt, ...identity }]);
    }
    for (const [engine, identity] of identities.entries()) {
      const place = await routed([path, { prompt, ...identity }]);
      expect(place, JSON.stringify(identity)).toBe(stack.engines[engine]?.address);
    }
  });

  it("is said in the status to be tokenised by engines", async () => {
    expect((await stack.router.ready()).text).toContain("tokenised by the engines' /tokenize");
  });
});
