import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bodySamples } from "../../test/harness/body-samples.ts";
import { mutateJson } from "../../test/harness/mutate-json.ts";
import {
  goldenTokens,
  MODELS,
  type ModelName,
  tokenizerFolder,
} from "../../test/harness/tokenizers.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { refused } from "../core/result.ts";
import { engineRules } from "./engine-rules.ts";
import { readTokenizerConfig, readTokenizerJson } from "./file-tokenizer.ts";
import { LocalTokenizer } from "./local-tokenizer.ts";
import type { PromptTokenizer, Tokenized, TokenizeRequest } from "./prompt-tokenizer.ts";
import { readPrompt } from "./request-body.ts";
import { TokenMemo } from "./token-memo.ts";

const NEVER = new AbortController().signal;
const MEMO_BYTES = 67_108_864;
const ASKED = "engine-unreachable";
const elsewhere: PromptTokenizer = {
  tokenize: () => Promise.resolve(refused(ASKED, "asked elsewhere")),
};

function start(folder: string, memoBytes = MEMO_BYTES): Promise<LocalTokenizer> {
  const memo = new TokenMemo(memoBytes);
  const ports = { clock: nodeClock, log: silentLog };
  return LocalTokenizer.start(folder, {
    ...ports,
    memo,
    rules: engineRules({ engine: "vllm", engineVersion: null }),
    textBytesMax: memoBytes,
    otherwise: elsewhere,
  });
}

function chatRequest(fields: object): TokenizeRequest {
  const route = "/v1/chat/completions";
  const body = Buffer.from(JSON.stringify(fields));
  const read = readPrompt(route, body);
  if (!read.ok || read.value.prompt.kind !== "chat") throw new Error(JSON.stringify(read));
  return { model: "m", prompt: read.value.prompt, route, body };
}

function textRequest(text: string, isSpecialAdded: boolean | null = null): TokenizeRequest {
  const prompt = { kind: "text", text, isSpecialAdded } as const;
  return { model: "m", prompt, route: "/v1/completions", body: new Uint8Array(0) };
}

async function made(tokenizer: LocalTokenizer, request: TokenizeRequest): Promise<Tokenized> {
  const result = await tokenizer.tokenize(request, NEVER);
  if (!result.ok) throw new Error(`${result.reason}: ${result.detail}`);
  return result.value;
}

describe.each(MODELS)("tokens of %s made here", (model: ModelName) => {
  let tokenizer: LocalTokenizer;
  let whole: Tokenizer;
  const folder = tokenizerFolder(model);
  const { texts, chats } = goldenTokens(model);

  beforeAll(async () => {
    tokenizer = await start(folder);
    whole = new Tokenizer(readTokenizerJson(folder), readTokenizerConfig(folder));
  });
  afterAll(() => tokenizer.stop());

  it("are those of the Rust library, for text", async () => {
    for (const { text, ids } of texts) {
      const { tokens } = await made(tokenizer, textRequest(text));
      expect([...tokens], JSON.stringify(text)).toEqual(ids);
    }
  });

  it("are those of the Rust library and of jinja2, for chats", async () => {
    for (const { request, ids } of chats) {
      const { tokens } = await made(tokenizer, chatRequest(request));
      expect([...tokens], JSON.stringify(request)).toEqual(ids);
    }
  });

  it("are those of the whole text, wherever it is cut and whatever is remembered", async () => {
    const special = fc.constantFrom("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<tool_call>");
    const broken = fc.constantFrom("<|im_", "|>", "<", "<|start_header_id|>", "  ", "\n", " a");
    const piece = fc.oneof(special, broken, fc.string({ unit: "grapheme" }), fc.lorem());
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
        const text = pieces.join("");
        const { tokens, segments, segmentsKnown } = await made(tokenizer, textRequest(text, false));
        const ids = whole.encode(text, { add_special_tokens: false }).ids;
        expect([...tokens]).toEqual(ids);
        expect(segmentsKnown).toBeLessThanOrEqual(segments);
        expect([...(await made(tokenizer, textRequest(text, false))).tokens]).toEqual(ids);
      }),
      { numRuns: 150 },
    );
  });

  it("are those of the whole text, where it begins like a long one before", async () => {
    const turn = `<|im_start|>user\nwhat<|eot_id|>of ${model}?<|im_end|>\n`;
    const long = turn.repeat(150);
    await made(tokenizer, textRequest(long, false));
    const rest = fc.array(fc.constantFrom("<|im_", "<|im_end|>", "\n", "user", " a"), {
      maxLength: 4,
    });
    await fc.assert(
      fc.asyncProperty(fc.nat(long.length), rest, async (kept, pieces) => {
        const text = long.slice(0, kept) + pieces.join("");
        const { tokens, segments, segmentsKnown } = await made(tokenizer, textRequest(text, false));
        expect([...tokens]).toEqual(whole.encode(text, { add_special_tokens: false }).ids);
        expect(segments - segmentsKnown).toBeLessThanOrEqual(4);
      }),
      { numRuns: 60 },
    );
  });

  it("are those of a long chat as well, which another thread renders", async () => {
    if (model !== "qwen2_5") return;
    for (const count of [257, 1025]) {
      const said = (_: unknown, at: number): { role: string; content: string } => ({
        role: ["system", "user", "assistant"][Math.min(at, 1 + (at % 2))] ?? "",
        content: `message ${at}`,
      });
      const messages = Array.from({ length: count }, said);
      const { tokens } = await made(tokenizer, chatRequest({ messages }));
      const turns = messages.map(
        ({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`,
      );
      const text = `${turns.join("")}<|im_start|>assistant\n`;
      expect([...tokens]).toEqual(whole.encode(text, { add_special_tokens: false }).ids);
    }
  });

  it("need of a chat's next turn only what is new", async () => {
    const messages = [
      { role: "user", content: `first ${model}` },
      { role: "assistant", content: "an answer" },
    ];
    await made(tokenizer, chatRequest({ messages }));
    const next = chatRequest({ messages: [...messages, { role: "user", content: "second" }] });
    const turn = await made(tokenizer, next);
    expect(turn.source).toBe("local");
    expect(turn.segments - turn.segmentsKnown).toBeLessThanOrEqual(2);
    const again = await made(tokenizer, next);
    expect(again).toMatchObject({ source: "memo", segmentsKnown: turn.segments });
    expect(again.tokens).toEqual(turn.tokens);
  });
});

describe("a tokenizer whose pieces depend on their place", () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-tokenizer-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  const variants: [string, (json: Record<string, unknown>) => object][] = [
    [
      "pre-tokenizer Metaspace",
      () => ({ pre_tokenizer: { type: "Metaspace", prepend_scheme: "first" } }),
    ],
    [
      "pre-tokenizer ByteLevel with add_prefix_space",
      () => ({ pre_tokenizer: { type: "ByteLevel", add_prefix_space: true } }),
    ],
    [
      "normalizer Strip",
      () => ({
        normalizer: { type: "Sequence", normalizers: [{ type: "NFC" }, { type: "Strip" }] },
      }),
    ],
    [
      'added token "<|im_end|>" has rstrip',
      ({ added_tokens: added }) => ({
        added_tokens: (added as { content: string }[]).map((each) =>
          each.content === "<|im_end|>" ? { ...each, rstrip: true } : each,
        ),
      }),
    ],
  ];

  it.each(variants)("is given the whole text: %s", async (obstacle, change) => {
    cpSync(tokenizerFolder("qwen2_5"), folder, { recursive: true });
    const json = JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8"));
    const changed = { ...json, ...change(json) };
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(changed));
    const whole = new Tokenizer(changed, readTokenizerConfig(folder));
    const tokenizer = await start(folder);
    expect(tokenizer.detail).toContain(`tokenised whole: ${obstacle}`);
    const text = "hello<|im_end|>  world <|im_start|>x y<|im_end|>\n";
    const { tokens, segments } = await made(tokenizer, textRequest(text, false));
    expect(segments).toBe(1);
    expect([...tokens]).toEqual(whole.encode(text, { add_special_tokens: false }).ids);
    await tokenizer.stop();
  });

  it("goes to an engine, where the library finds a token that the engine does not", async () => {
    cpSync(tokenizerFolder("qwen2_5"), folder, { recursive: true });
    const json = JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8"));
    const word = { id: 151_900, content: "kvatlasfoo", single_word: true, special: false };
    const added_tokens = [...json.added_tokens, { ...word, lstrip: false, normalized: false }];
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify({ ...json, added_tokens }));
    const tokenizer = await start(folder);
    const found = await tokenizer.tokenize(textRequest("a kvatlasfoo b"), NEVER);
    expect(found).toMatchObject({ ok: false, reason: ASKED });
    await made(tokenizer, textRequest("a kvatlas b"));
    await tokenizer.stop();
  });

  it("goes to an engine, where an added token is in the vocabulary by another id", async () => {
    cpSync(tokenizerFolder("qwen2_5"), folder, { recursive: true });
    const json = JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8"));
    const moved = { id: 151_900, content: "foo", single_word: false, special: false };
    const added_tokens = [...json.added_tokens, { ...moved, lstrip: false, normalized: false }];
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify({ ...json, added_tokens }));
    const tokenizer = await start(folder);
    const found = await tokenizer.tokenize(textRequest("bar"), NEVER);
    expect(found).toMatchObject({ ok: false, reason: ASKED });
    await tokenizer.stop();
  });

  it("that adds special tokens adds them around the cut text as well", async () => {
    cpSync(tokenizerFolder("llama3"), folder, { recursive: true });
    const json = JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8"));
    const special = (id: string): object => ({ SpecialToken: { id, type_id: 0 } });
    const single = [special("<|begin_of_text|>"), { Sequence: { id: "A", type_id: 0 } }];
    const template = {
      type: "TemplateProcessing",
      single: [...single, special("<|eot_id|>")],
      pair: [],
      special_tokens: {},
    };
    writeFileSync(
      join(folder, "tokenizer.json"),
      JSON.stringify({ ...json, post_processor: template }),
    );
    const tokenizer = await start(folder);
    const added = await made(tokenizer, textRequest("hi <|eot_id|> there"));
    const plain = await made(tokenizer, textRequest("hi <|eot_id|> there", false));
    expect([...added.tokens]).toEqual([128_000, ...plain.tokens, 128_009]);
    await tokenizer.stop();
  });
});

describe("what cannot be made here", () => {
  let tokenizer: LocalTokenizer;
  beforeAll(async () => {
    tokenizer = await start(tokenizerFolder("qwen2_5"), 0);
  });
  afterAll(() => tokenizer.stop());

  const messages = [{ role: "user", content: "hi" }];
  const reasonOf = async (request: TokenizeRequest, signal = NEVER): Promise<string> => {
    const result = await tokenizer.tokenize(request, signal);
    return result.ok ? "made" : result.reason;
  };

  it("goes to an engine", async () => {
    const tool = (parameters: object) => ({
      type: "function",
      function: { name: "f", parameters },
    });
    const elsewhereCases = [
      { messages, chat_template: "{{ messages }}" },
      { messages, continue_final_message: true, add_generation_prompt: false },
      { messages, tools: [tool({ b: 1, 2: 3 })] },
      { messages, tools: [tool({ maximum: 1e30 })] },
    ];
    for (const fields of elsewhereCases) {
      expect(await reasonOf(chatRequest(fields)), JSON.stringify(fields)).toBe(ASKED);
    }
    expect(await reasonOf(chatRequest({ messages, tools: [tool({ maximum: 1.5, b: 10 })] }))).toBe(
      "made",
    );
    const body = Buffer.from(
      JSON.stringify({ messages, tools: [tool({ a: 7 })] }).replace("7", "1.0"),
    );
    const read = readPrompt("/v1/chat/completions", body);
    if (!read.ok || read.value.prompt.kind !== "chat") throw new Error("not read");
    const { prompt, route } = read.value;
    expect(await reasonOf({ model: "m", prompt, route, body })).toBe(ASKED);
    const called = (args: string): object => {
      const call = { function: { name: "f", arguments: args } };
      return { messages: [{ role: "assistant", tool_calls: [call] }, ...messages] };
    };
    for (const [args, expected] of [
      ['{"x": 1.0}', ASKED],
      ['{"x": NaN}', ASKED],
      ['{"x": "NaN"}', "made"],
      ["no JSON", "made"],
    ] as const) {
      expect(await reasonOf(chatRequest(called(args))), args).toBe(expected);
    }
  });

  it("is refused with its reason", async () => {
    expect(await reasonOf(textRequest("half \ud800 a pair"))).toBe("not-unicode");
    expect(await reasonOf(textRequest("late"), AbortSignal.abort())).toBe("deadline");
    const huge = await tokenizer.tokenize(textRequest("x".repeat(16_777_217)), NEVER);
    const detail = "16777217 characters, 0 wait, limit 16777216";
    expect(huge).toEqual({ ok: false, reason: "tokenizer-busy", detail });
  });

  it("is the same whole, when it would be cut into too many pieces", async () => {
    const text = "<|im_end|>\n".repeat(40_000);
    const { tokens, segments } = await made(tokenizer, textRequest(text));
    expect(segments).toBe(1);
    expect(tokens).toHaveLength(80_000);
    expect([...tokens.subarray(0, 2)]).toEqual([151_645, 198]);
  });

  it("never makes it throw", async () => {
    const random = seededRandom(3);
    const samples = bodySamples().filter(({ path }) => /chat|messages|responses/.test(path));
    const reasons = new Set<string>();
    for (let round = 0; round < 400; round += 1) {
      const { path, body } = samples[round % samples.length] ?? { path: "", body: Buffer.of() };
      const changed = mutateJson(body, random);
      const read = readPrompt(path, changed);
      if (!read.ok || read.value.prompt.kind !== "chat") continue;
      const { prompt, route } = read.value;
      reasons.add(await reasonOf({ model: "m", prompt, route, body: changed }));
    }
    expect([...reasons].sort()).toEqual(expect.arrayContaining(["made", ASKED, "not-unicode"]));
  });

  it("is not waited for by short texts, where it is long", async () => {
    const order: string[] = [];
    const ask = async (name: string, text: string): Promise<void> => {
      await made(tokenizer, textRequest(text));
      order.push(name);
    };
    await Promise.all([ask("long", "x".repeat(200_000)), ask("short", "hello there")]);
    expect(order).toEqual(["short", "long"]);
  });

  it("is refused when the tokenizer is stopped", async () => {
    const stopped = await start(tokenizerFolder("qwen2_5"), 0);
    const waiting = stopped.tokenize(textRequest("some text"), NEVER);
    await stopped.stop();
    expect(await waiting).toMatchObject({ ok: false, reason: "tokenizer-failed" });
    const late = await stopped.tokenize(textRequest("more text"), NEVER);
    expect(late).toMatchObject({ ok: false, reason: "tokenizer-failed" });
  });

  it("is said at the start, when the files are not there", async () => {
    await expect(start(tmpdir())).rejects.toThrow("tokenizer_config.json");
  });
});
