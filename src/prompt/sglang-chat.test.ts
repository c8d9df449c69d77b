import { describe, expect, it } from "vitest";
import { goldenPrompts } from "../../test/harness/golden-prompts.ts";
import { nodeClock } from "../core/node-clock.ts";
import type { Result } from "../core/result.ts";
import { ChatTemplate, type RenderedChat, type TemplateRefusal } from "./chat-template.ts";
import { engineRules } from "./engine-rules.ts";
import { tokenizeBody } from "./engine-tokenizer.ts";
import { chatTemplatesOf } from "./file-tokenizer.ts";
import type { Prompt } from "./prompt-fields.ts";
import { readPrompt } from "./request-body.ts";

const RULES = engineRules({ engine: "sglang", engineVersion: null });
const CHAT = "/v1/chat/completions";
const USER = { role: "user", content: "q" };

function chatOf(path: string, body: object): Extract<Prompt, { kind: "chat" }> {
  const read = readPrompt(path, Buffer.from(JSON.stringify(body)));
  if (!read.ok || read.value.prompt.kind !== "chat") throw new Error(JSON.stringify(read));
  return read.value.prompt;
}

function rendered(
  path: string,
  body: object,
  plain: string,
  engineVersion: string | null = null,
): Result<RenderedChat, TemplateRefusal> {
  const rules = engineRules({ engine: "sglang", engineVersion });
  const deps = { special: { bos_token: "<s>" }, rules, clock: nodeClock };
  return new ChatTemplate({ plain, withTools: plain }, deps).render(chatOf(path, body).chat);
}

describe("a chat, by SGLang's rules", () => {
  it.each([
    ["0.5.23", 150],
    ["0.5.22", 20],
    ["0.5.20", 20],
  ])("reaches the template as SGLang %s hands it over", (version, count) => {
    const { templates, cases } = goldenPrompts(`sglang-${version}`);
    expect(cases.length).toBeGreaterThan(count);
    for (const { path, template, body, text, isSpecialAdded } of cases) {
      const made = rendered(path, body, templates[template] ?? "", version);
      const expected = { ok: true, value: { text, isSpecialAdded } };
      expect(made, `${template} ${path} ${JSON.stringify(body)}`).toEqual(expected);
    }
  });

  it("is left to the engine where its start decides, or where SGLang refuses it", () => {
    const plain = "{{ messages[0].content }}{{ low_effort }}{# truncate_history_thinking #}";
    const called = (args: string): object => ({
      role: "assistant",
      tool_calls: [{ function: { name: "f", arguments: args } }],
    });
    const tool = (of: object): object => ({ type: "function", function: { name: "f", ...of } });
    const thought = { type: "thinking", thinking: "t", signature: "s" };
    const bodies: readonly (readonly [string, object])[] = [
      [CHAT, { messages: [USER, { role: "assistant" }], continue_final_message: true }],
      [CHAT, { messages: [USER, called("[]"), USER] }],
      [CHAT, { messages: [USER, called("no"), USER] }],
      [CHAT, { messages: [USER], tools: [tool({ parameters: { type: "int" } })] }],
      [CHAT, { messages: [USER], tools: [tool({})], tool_choice: { function: { name: "g" } } }],
      [CHAT, { messages: [USER], chat_template_kwargs: { tools: [] } }],
      [CHAT, { messages: [USER], reasoning_effort: 0 }],
      [CHAT, { messages: [USER], reasoning_effort: "low" }],
      ["/v1/messages", { messages: [USER], thinking: { type: "disabled" } }],
      ["/v1/messages", { messages: [USER, { role: "assistant", content: [thought] }] }],
      ["/v1/responses", { input: [USER, { type: "custom_tool_call", input: "x" }] }],
      ["/v1/responses", { input: "q", tools: [{ type: "custom", name: "c" }] }],
      ["/v1/responses", { input: [USER, { type: "reasoning", encrypted_content: "sglang" }] }],
    ];
    for (const [path, body] of bodies) {
      expect(rendered(path, body, plain), JSON.stringify(body)).toMatchObject({
        reason: "template-unsupported",
      });
    }
  });

  it("has the first of several templates, with tools or without", () => {
    const chat_template = [
      { name: "tool_use", template: "a" },
      { name: "default", template: "b" },
    ];
    expect(chatTemplatesOf({ chat_template }, RULES)).toEqual({ plain: "a", withTools: "a" });
  });

  it("is asked of SGLang's /tokenize as chat completions, which is the one form it takes", () => {
    const asked = (path: string, body: object): unknown => {
      const made = tokenizeBody({ model: "m", prompt: chatOf(path, body) }, RULES);
      return made.ok ? JSON.parse(made.value) : made.reason;
    };
    const extra = { temperature: 1, add_generation_prompt: false, documents: [{}] };
    const chat = { messages: [USER], tool_choice: "none", reasoning: { effort: "low" } };
    expect(asked(CHAT, { ...chat, ...extra, continue_final_message: true })).toEqual({
      ...{ model: "m", ...chat, continue_final_message: true },
    });
    expect(asked("/v1/messages", { system: "s", messages: [USER] })).toEqual({
      ...{ model: "m", messages: [{ role: "system", content: "s" }, USER] },
    });
    const inline = { messages: [USER, { role: "system", content: "s" }, USER] };
    expect(asked("/v1/messages", inline)).toBe("template-unsupported");
    expect(asked("/v1/responses", { input: inline.messages })).toBe("template-unsupported");
    expect(asked("/v1/responses", { instructions: "s", input: "q" })).toEqual({
      ...{ model: "m", messages: [{ role: "system", content: "s" }, USER] },
    });
  });
});
