import { describe, expect, it } from "vitest";
import { goldenPrompts } from "../../test/harness/golden-prompts.ts";
import { nodeClock } from "../core/node-clock.ts";
import { ChatTemplate, type RenderedChat } from "./chat-template.ts";
import { engineRules } from "./engine-rules.ts";
import { readPrompt } from "./request-body.ts";

const GOLDEN = goldenPrompts("vllm-0.33.0");

function rendered(
  path: string,
  body: object,
  template: string,
  version: string | null,
): RenderedChat {
  const read = readPrompt(path, Buffer.from(JSON.stringify(body)));
  if (!read.ok || read.value.prompt.kind !== "chat") throw new Error(JSON.stringify(read));
  const rules = engineRules({ engine: "vllm", engineVersion: version });
  const deps = { special: { bos_token: "<s>" }, rules, clock: nodeClock };
  const plain = GOLDEN.templates[template] ?? "";
  const result = new ChatTemplate({ plain, withTools: plain }, deps).render(read.value.prompt.chat);
  if (!result.ok) throw new Error(`${result.reason}: ${result.detail}`);
  return result.value;
}

describe("a chat", () => {
  it("reaches the template as vLLM 0.33.0 hands it over", () => {
    expect(GOLDEN.cases.length).toBeGreaterThan(100);
    for (const { path, template, body, text, isSpecialAdded } of GOLDEN.cases) {
      const made = rendered(path, body, template, null);
      expect(made, `${template} ${JSON.stringify(body)}`).toEqual({ text, isSpecialAdded });
    }
  });

  it("is read by the rules of the version that is asked for", () => {
    const chat = "/v1/chat/completions";
    const user = { role: "user", content: "a" };
    const textOf = (path: string, body: object, version: string): string =>
      rendered(path, body, "text", version).text;
    const tool = { function: { strict: null, extra: 1, name: "f" }, type: "function" };
    const tools = (version: string): string | undefined =>
      textOf(chat, { messages: [user], tools: [tool] }, version).split("\n")[1];
    const written = '"name": "f", "description": null, "parameters": null';
    expect(tools("0.11.2")).toBe(
      `[{"type": "function", "function": {${written}, "strict": null, "extra": 1}}]`,
    );
    expect(tools("0.25.1")).toBe(`[{"type": "function", "function": {${written}, "extra": 1}}]`);
    expect(tools("0.29")).toBe(`[{"type": "function", "function": {${written}}}]`);
    const developer = { messages: [user, { role: "developer", content: "d" }] };
    expect(textOf(chat, developer, "0.18.1")).toContain('{"role": "developer", "content": "d"}');
    expect(textOf(chat, developer, "0.25.1")).toMatch(/^\{"role": "system", "content": "d"\}/);
    const auto = { messages: [user], chat_template_kwargs: { custom: "auto" } };
    expect(textOf(chat, auto, "0.11.2")).toContain("- - auto True");
    expect(textOf(chat, auto, "0.18.1")).toContain("- - - True");
    const effort = { messages: [user], reasoning_effort: "none" };
    expect(textOf(chat, effort, "0.18.1")).toContain("none - - True");
    expect(textOf(chat, effort, "0.25.1")).toContain("none False - True");
    const inline = { messages: [user, { role: "system", content: "s" }, user] };
    expect(textOf("/v1/messages", inline, "0.29.0")).toMatch(/^\{"role": "system"/);
    expect(textOf("/v1/messages", inline, "0.33.0")).toMatch(/^\{"role": "user"/);
    const added = (version: string): boolean =>
      rendered("/v1/responses", { input: "a" }, "text", version).isSpecialAdded;
    expect([added("0.11.2"), added("0.18.1"), added("0.33.0")]).toEqual([false, true, true]);
  });

  it("is left to the engine where a template hides whether it takes system messages within", () => {
    const hiding = "{% if messages[2].role == 'system' %}{{ 1 | float }}{% endif %}{{ messages }}";
    const rules = engineRules({ engine: "vllm", engineVersion: null });
    const deps = { special: {}, rules, clock: nodeClock };
    const template = new ChatTemplate({ plain: hiding, withTools: hiding }, deps);
    const user = { role: "user", content: "a" };
    const render = (messages: readonly object[]): unknown => {
      const read = readPrompt("/v1/messages", Buffer.from(JSON.stringify({ messages })));
      if (!read.ok || read.value.prompt.kind !== "chat") throw new Error(JSON.stringify(read));
      return template.render(read.value.prompt.chat);
    };
    const within = [user, { role: "system", content: "s" }, user];
    expect(render(within)).toMatchObject({ reason: "template-unsupported" });
    expect(render([user])).toMatchObject({ ok: true });
  });
});
