import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ok } from "../core/result.ts";
import type { Chat } from "./prompt-fields.ts";
import { readRequestBody } from "./request-body.ts";

const PATHS = [
  "/v1/completions",
  "/v1/chat/completions",
  "/v1/responses",
  "/v1/messages",
  "/v1/embeddings",
  "/inference/v1/generate",
  "/generate",
];

const bytes = (body: unknown): Uint8Array => Buffer.from(JSON.stringify(body));
/** A refusal of the prompt as one of the body; null in a prompt's place: it was refused. */
const read = (path: string, body: unknown) => {
  const result = readRequestBody(path, bytes(body));
  if (!result.ok) return result;
  const { prompt, ...rest } = result.value;
  return prompt.ok ? ok({ ...rest, prompt: prompt.value }) : prompt;
};
const refusal = (path: string, body: unknown): string => {
  const result = read(path, body);
  return result.ok ? "accepted" : result.reason;
};
const ids = Uint32Array.from([1, 2, 128_000]);

function chatOf(path: string, body: unknown): Chat {
  const result = read(path, body);
  if (!result.ok || result.value.prompt.kind !== "chat") throw new Error(JSON.stringify(result));
  return result.value.prompt.chat;
}

describe("request bodies", () => {
  it("give token ids, alone or as a batch", () => {
    const plain = [1, 2, 128_000];
    for (const [path, field] of [
      ["/v1/completions?x=1", "prompt"],
      ["/v1/embeddings", "input"],
      ["/inference/v1/generate", "token_ids"],
      ["/generate", "input_ids"],
    ] as const) {
      expect(read(path, { model: "m", [field]: plain, cache_salt: "s", priority: 3 })).toEqual({
        ok: true,
        value: {
          ...{ route: path.split("?")[0], model: "m", loraPath: null, cacheSalt: "s", priority: 3 },
          isFirstTokenShown: path === "/v1/embeddings",
          prompt: { kind: "tokens", prompts: [ids] },
        },
      });
      expect(read(path, { [field]: [plain, [5]] })).toMatchObject({
        value: { prompt: { prompts: [ids, Uint32Array.from([5])] } },
      });
    }
  });

  it("take a boolean for one in all the forms that engines take", () => {
    for (const [value, expected] of [
      ...([0, "false", "OFF", "no", "n", "f", "0"] as const).map((each) => [each, false] as const),
      ...([1, "true", "On", "yes", "y", "t", "1"] as const).map((each) => [each, true] as const),
      ...([null, "maybe", 2, []] as const).map((each) => [each, null] as const),
    ]) {
      expect(read("/v1/completions", { prompt: "a", add_special_tokens: value })).toMatchObject({
        value: { prompt: { isSpecialAdded: expected } },
      });
    }
  });

  it("of SGLang are token ids where there is text as well", () => {
    expect(read("/generate", { text: "abc", input_ids: [1, 2] })).toMatchObject({
      value: { prompt: { kind: "tokens", prompts: [Uint32Array.of(1, 2)] } },
    });
  });

  it("give text, alone or as a batch", () => {
    expect(read("/v1/completions", { prompt: "a b", add_special_tokens: false })).toMatchObject({
      value: { model: null, prompt: { kind: "text", texts: ["a b"], isSpecialAdded: false } },
    });
    expect(read("/v1/embeddings", { input: ["a", "b"] })).toMatchObject({
      value: { prompt: { texts: ["a", "b"], isSpecialAdded: null } },
    });
    const sglang = { text: "a", lora_path: "adapter", extra_key: "tenant" };
    expect(read("/generate", sglang)).toMatchObject({
      value: { model: null, loraPath: "adapter", cacheSalt: "tenant", prompt: { texts: ["a"] } },
    });
  });

  it("give of a chat what its template sees", () => {
    const messages = [{ role: "user", content: [{ type: "text", text: "hi" }] }];
    const tools = [{ type: "function" }];
    const documents = [{ title: "t", text: "x" }];
    const seen = { messages, tools, documents, chat_template_kwargs: { enable_thinking: false } };
    const body = { model: "m", ...seen, temperature: 1 };
    expect(chatOf("/v1/chat/completions", body)).toEqual({
      body,
      ...{ messages, tools, documents, template: null, isTextOnly: true },
      ...{ api: "chat", effort: null, isThinkingOff: false },
      templateArgs: { enable_thinking: false },
      isGenerationPromptAdded: true,
      isFinalMessageContinued: false,
      isSpecialAdded: false,
    });
    const effort = { messages, reasoning_effort: "low", add_generation_prompt: false };
    expect(chatOf("/v1/chat/completions", effort)).toMatchObject({
      effort: "low",
      isGenerationPromptAdded: false,
    });
  });

  it("of /v1/responses become messages, one for all that an assistant said in a row", () => {
    expect(chatOf("/v1/responses", { instructions: "be kind", input: "hi" }).messages).toEqual([
      { role: "system", content: "be kind" },
      { role: "user", content: "hi" },
    ]);
    const call = { type: "function_call", call_id: "c", name: "f", arguments: "{}" };
    const { messages, tools, effort, api } = chatOf("/v1/responses", {
      reasoning: { effort: "high" },
      tools: [{ type: "function", name: "f", parameters: {} }, { type: "web_search" }],
      input: [
        { role: "user", content: [{ type: "input_text", text: "hi" }] },
        { type: "reasoning", content: [{ type: "reasoning_text", text: "hm" }] },
        { role: "assistant", content: [{ type: "output_text", text: "yes" }] },
        call,
        call,
        { type: "function_call_output", call_id: "c", output: "42" },
        { role: "assistant", content: "done" },
        { role: "assistant", content: "really" },
      ],
    });
    const made = { id: "c", type: "function", function: { name: "f", arguments: "{}" } };
    expect(messages).toEqual([
      { role: "user", content: [{ type: "input_text", text: "hi" }] },
      { role: "assistant", reasoning: "hm", content: "yes", tool_calls: [made, made] },
      { role: "tool", content: "42", tool_call_id: "c" },
      { role: "assistant", content: "done" },
      { role: "assistant", content: "really" },
    ]);
    expect(tools).toEqual([{ type: "function", function: { name: "f", parameters: {} } }]);
    expect({ effort, api }).toEqual({ effort: "high", api: "responses" });
  });

  it("know chats that are not of text alone", () => {
    const text = { type: "text", text: "see" };
    for (const [path, part] of [
      ["/v1/chat/completions", { type: "image_url", image_url: { url: "http://x/y.png" } }],
      ["/v1/messages", { type: "image", source: { type: "base64", data: "QUJD" } }],
      ["/v1/responses", { type: "input_image", image_url: "data:," }],
      ["/v1/chat/completions", { type: "input_audio", input_audio: {} }],
    ] as const) {
      const mixed = [{ role: "user", content: [text, part] }];
      expect(chatOf(path, { messages: mixed, input: mixed }).isTextOnly, path).toBe(false);
      const plain = [{ role: "user", content: [text] }];
      expect(chatOf(path, { messages: plain, input: plain }).isTextOnly, path).toBe(true);
    }
  });

  it("go on with an answer that was cut short, and begin none where none is made", () => {
    const said = { type: "message", role: "assistant", status: "incomplete", content: "Once" };
    const asked = { role: "user", content: "tell" };
    expect(chatOf("/v1/responses", { input: [asked, said] })).toMatchObject({
      isGenerationPromptAdded: false,
      isFinalMessageContinued: true,
    });
    const whole = { ...said, status: "completed" };
    expect(chatOf("/v1/responses", { input: [asked, whole] })).toMatchObject({
      isGenerationPromptAdded: true,
      isFinalMessageContinued: false,
    });
    const embedded = { messages: [asked] };
    expect(chatOf("/v1/embeddings", embedded).isGenerationPromptAdded).toBe(false);
    const begun = { ...embedded, add_generation_prompt: true };
    expect(chatOf("/v1/embeddings", begun).isGenerationPromptAdded).toBe(true);
  });

  it("name the effort beside the template's arguments", () => {
    const messages = [{ role: "user", content: "hi" }];
    const chat_template_kwargs = { reasoning_effort: "low", enable_thinking: true };
    const asked = { effort: "high", templateArgs: chat_template_kwargs };
    for (const [path, effort] of [
      ["/v1/chat/completions", { reasoning_effort: "high" }],
      ["/v1/messages", { output_config: { effort: "high" } }],
      ["/v1/responses", { reasoning: { effort: "high" } }],
    ] as const) {
      const body = { messages, input: "hi", chat_template_kwargs, ...effort };
      expect(chatOf(path, body), path).toMatchObject(asked);
    }
  });

  it("of /v1/messages become messages, system first and tool results apart", () => {
    const { messages, tools } = chatOf("/v1/messages", {
      system: [
        { type: "text", text: "x-anthropic-billing-header: cch=1" },
        { type: "text", text: "be kind" },
      ],
      tools: [{ name: "f", input_schema: { type: "object" } }],
      messages: [
        { role: "user", content: "hi" },
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "hm" },
            { type: "text", text: "yes" },
            { type: "tool_use", id: "t", name: "f", input: { a: 1 } },
          ],
        },
        {
          role: "user",
          content: [
            { type: "text", text: "and" },
            { type: "tool_result", tool_use_id: "t", content: [{ type: "text", text: "42" }] },
          ],
        },
        { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: "43" }] },
      ],
    });
    expect(messages).toEqual([
      { role: "system", content: "be kind" },
      { role: "user", content: "hi" },
      {
        role: "assistant",
        reasoning: "hm",
        content: "yes",
        tool_calls: [{ id: "t", type: "function", function: { name: "f", arguments: '{"a":1}' } }],
      },
      { role: "tool", tool_call_id: "t", content: "42" },
      { role: "user", content: "and" },
      { role: "tool", tool_call_id: "t", content: "43" },
    ]);
    expect(tools).toMatchObject([
      { type: "function", function: { name: "f", parameters: { type: "object" } } },
    ]);
  });

  it("are read under whatever a gateway serves the API", () => {
    for (const path of PATHS) {
      const messages = [{ role: "user", content: "hi" }];
      const prompt = path === "/v1/completions" ? { prompt: "a" } : { input: "a" };
      const whole = { messages, ...prompt, text: "a", token_ids: [1] };
      const plain = read(path, whole);
      expect(plain.ok, path).toBe(true);
      expect(read(`/team/a${path}?x=1`, whole), path).toEqual(plain);
    }
    expect(refusal("/v1/completions/extra", { prompt: "a" })).toBe("path-unknown");
    expect(refusal("/v1/completions%2f", { prompt: "a" })).toBe("path-unknown");
  });

  it("are refused with the reason that is counted", () => {
    expect(readRequestBody("/v1/chat/completions", Buffer.alloc(0))).toMatchObject({
      reason: "no-prompt",
    });
    expect(refusal("/v1/images/generations", {})).toBe("path-unknown");
    expect(refusal("/v1/completions", [1])).toBe("not-json");
    for (const path of PATHS) expect(refusal(path, {}), path).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: [] })).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: [[]] })).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: [1, -2] })).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: [1, 2.5] })).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: ["a", 1] })).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: "a", truncate_prompt_tokens: 5 })).toBe(
      "truncated",
    );
    expect(refusal("/v1/chat/completions", { messages: ["a"] })).toBe("no-prompt");
    expect(refusal("/v1/responses", { previous_response_id: "r", input: "a" })).toBe("stateful");
    expect(refusal("/inference/v1/generate", { token_ids: [1], features: {} })).toBe("multimodal");
    expect(refusal("/generate", { text: "a", image_data: "x" })).toBe("multimodal");
  });

  it("say whether the first byte of the answer is that of its first token", () => {
    const isShown = (path: string, body: object): boolean => {
      const result = readRequestBody(path, bytes(body));
      return result.ok && result.value.isFirstTokenShown;
    };
    const messages = [{ role: "user", content: [{ type: "image_url" }] }];
    for (const [path, body, name] of [
      ["/v1/completions", { prompt: [1] }, "max_tokens"],
      ["/v1/chat/completions", { messages }, "max_completion_tokens"],
      ["/v1/responses", { input: "a" }, "max_output_tokens"],
    ] as const) {
      expect(isShown(path, body)).toBe(false);
      expect(isShown(path, { ...body, [name]: 100, stream: false })).toBe(false);
      expect(isShown(path, { ...body, [name]: 1 })).toBe(true);
      expect(isShown(path, { ...body, stream: true })).toBe(true);
    }
    const sampling_params = { max_new_tokens: 1 };
    expect(isShown("/generate", { text: "a", sampling_params })).toBe(true);
    expect(isShown("/v1/embeddings", { input: "a" })).toBe(true);
  });

  it("of which the engine scores every token are routed by load: it reads none from its cache", () => {
    const prompt = [1, 2, 3];
    const token_ids = prompt;
    for (const [path, body] of [
      ["/v1/completions", { prompt, prompt_logprobs: 0 }],
      ["/v1/completions", { prompt, echo: true, logprobs: 1 }],
      ["/v1/chat/completions", { messages: [{ role: "user", content: "a" }], echo: true }],
      ["/inference/v1/generate", { token_ids, sampling_params: { prompt_logprobs: 1 } }],
      ["/generate", { input_ids: prompt, return_logprob: true, logprob_start_len: 0 }],
    ] as const) {
      expect(refusal(path, body), JSON.stringify(body)).toBe("cache-unread");
    }
    for (const body of [
      { prompt, prompt_logprobs: null, logprobs: 5 },
      { prompt, echo: true, logprobs: null },
      { prompt, return_logprob: true, logprob_start_len: -1 },
    ]) {
      expect(refusal("/v1/completions", body), JSON.stringify(body)).toBe("accepted");
    }
  });

  it("never quote the prompt when they are not JSON", () => {
    const result = readRequestBody("/v1/completions", Buffer.from('{"prompt": "secret words'));
    expect(result).toMatchObject({ ok: false, reason: "not-json" });
    expect(JSON.stringify(result)).not.toContain("secret");
  });

  it("never make the reader throw", () => {
    const value = fc.jsonValue({ maxDepth: 4 });
    const paths = fc.constantFrom(...PATHS, "/x", "");
    fc.assert(
      fc.property(paths, fc.oneof(fc.uint8Array(), value.map(bytes)), (path, body) => {
        readRequestBody(path, body);
      }),
    );
    const block = fc.record(
      { type: fc.constantFrom("text", "tool_use", "tool_result", "thinking"), text: value },
      { requiredKeys: [] },
    );
    const message = fc.record({
      role: fc.constantFrom("user", "assistant", "system", 1),
      content: fc.oneof(value, fc.array(block)),
    });
    const messages = fc.array(fc.oneof(value, message));
    const field = fc.record({
      prompt: value,
      input: fc.oneof(value, messages),
      messages,
      system: value,
      tools: fc.array(value),
      model: value,
    });
    fc.assert(fc.property(paths, field, (path, body) => void read(path, body)));
    const deep = `{"prompt":${"[".repeat(100_000)}`;
    expect(readRequestBody("/v1/completions", Buffer.from(deep)).ok).toBe(false);
  });
});

describe("a request whose gateway does not tell its path", () => {
  it.each([
    ["/v1/chat/completions", { messages: [{ role: "user", content: "hello" }] }],
    ["/v1/messages", { system: "be brief", messages: [{ role: "user", content: "hello" }] }],
    ["/v1/completions", { prompt: Array.from({ length: 2000 }, (_, i) => i) }],
    ["/v1/responses", { input: "hello" }],
    ["/v1/responses", { input: [{ role: "user", content: "hello" }] }],
    ["/v1/embeddings", { input: ["hello", "you"] }],
    ["/v1/embeddings", { input: [[1, 2, 3], [4]] }],
    ["/inference/v1/generate", { token_ids: Array.from({ length: 2000 }, (_, i) => i) }],
    ["/generate", { input_ids: [1, 2, 3] }],
  ])("is read as one to %s by the fields of its body", (path, fields) => {
    const body = { model: "m", ...fields };
    expect(read("", body)).toEqual(read(path, body));
    expect(read(path, body).ok).toBe(true);
  });

  it.each([
    ["other fields", bytes({ model: "m" })],
    ["a prompt of another type", bytes({ prompt: 3 })],
    ["no JSON", Buffer.from("{")],
    ["no body", Buffer.alloc(0)],
  ])("is routed by load with %s", (_, body) => {
    expect(readRequestBody("", body)).toMatchObject({ ok: false, reason: "path-unknown" });
  });
});
