import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { nodeClock } from "../core/node-clock.ts";
import { ChatTemplate, type ChatTemplateDeps } from "./chat-template.ts";
import { engineRules } from "./engine-rules.ts";
import type { Chat, Fields } from "./prompt-fields.ts";

function chat(messages: readonly Fields[], rest: Partial<Chat> = {}): Chat {
  return {
    ...{
      isTextOnly: true,
      messages,
      body: { messages },
      tools: null,
      documents: null,
      template: null,
      templateArgs: {},
      ...{ api: "chat" as const, effort: null, isThinkingOff: false },
    },
    ...{ isGenerationPromptAdded: true, isFinalMessageContinued: false, isSpecialAdded: false },
    ...rest,
  };
}

function portsOf(engineVersion: string | null = null): ChatTemplateDeps {
  return {
    special: { bos_token: "<s>" },
    rules: engineRules({ engine: "vllm", engineVersion }),
    clock: nodeClock,
  };
}

function rendered(plain: string | null, of: Chat, withTools = plain, version?: string): string {
  const template = new ChatTemplate({ plain, withTools }, portsOf(version));
  const text = template.render(of);
  return text.ok ? text.value.text : text.reason;
}

interface Expression {
  readonly template: string;
  readonly variables: Fields;
  readonly text: string;
}

const EXPRESSIONS: readonly Expression[] = JSON.parse(
  readFileSync(new URL("../../test/golden/templates/expressions.json", import.meta.url), "utf8"),
);

const parts = [
  { type: "text", text: "a" },
  { type: "refusal", refusal: "b" },
];

describe("a chat template", () => {
  it("is given content as text, with line ends between its parts", () => {
    const template =
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}|{{ m.content }}]{% endfor %}";
    const messages = [
      { role: "user", content: parts },
      { role: "assistant", content: null },
      { role: "user", content: ["x", "y"] },
    ];
    expect(rendered(template, chat(messages))).toBe("<s>[user|a\nb][assistant|][user|x\ny]");
  });

  it("is given content as parts, where it loops over them", () => {
    const loops = [
      "{% for m in messages %}{% for c in m.content %}<{{ c.type }}:{{ c.text }}>{% endfor %}{% endfor %}",
      "{% for m in messages %}{% set x = m['content'] %}{% for c in x %}<{{ c.type }}:{{ c.text }}>{% endfor %}{% endfor %}",
    ];
    for (const template of loops) {
      const text = rendered(template, chat([{ role: "user", content: parts }, { content: "z" }]));
      expect(text).toBe("<text:a><text:b><text:z>");
    }
  });

  it("is given calls with arguments as objects, reasoning, names and tools as vLLM fills them in", () => {
    const template =
      "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.city }}{% endif %}" +
      "{{ m.reasoning_content }}{{ m.name }}{{ m.tool_call_id }};{% endfor %}{% for t in tools %}{{ t | tojson }}{% endfor %}";
    const messages = [
      {
        role: "assistant",
        reasoning: "hm",
        tool_calls: [{ id: "c", function: { name: "f", arguments: '{"city": "Rome"}' } }],
      },
      { role: "tool", tool_call_id: "c", content: "1", name: "f" },
    ];
    const tools = [{ function: { parameters: { b: 1, a: [] }, name: "f" }, type: "function" }];
    expect(rendered(template, chat(messages, { tools }))).toBe(
      'Romehm;fc;{"type": "function", "function": {"name": "f", "description": null, "parameters": {"b": 1, "a": []}}}',
    );
  });

  it("is chosen by whether there are tools, and sees what is passed to it", () => {
    const of = chat([], { templateArgs: { enable_thinking: false }, documents: [{ text: "d" }] });
    const plain = "{{ enable_thinking }} {{ documents[0].text }} {{ add_generation_prompt }}";
    expect(rendered(plain, of, "tools")).toBe("False d True");
    expect(rendered(plain, { ...of, tools: [] }, "tools")).toBe("tools");
  });

  it("writes what Jinja writes, or leaves it to the engine", () => {
    const left = new Set<string>();
    for (const { template, variables, text } of EXPRESSIONS) {
      // The version that hands over arguments that are None.
      const of = chat([], { templateArgs: variables });
      const made = rendered(template, of, template, "0.11.2");
      if (made === "template-unsupported") left.add(template);
      else expect(made, `${template} of ${JSON.stringify(variables)}`).toBe(text);
    }
    expect([...left].sort()).toEqual([]);
  });

  it("says why it renders nothing, without a word of the prompt", () => {
    expect(rendered(null, chat([]))).toBe("template-unsupported");
    expect(rendered("x", chat([], { template: "y" }))).toBe("template-unsupported");
    const many = Array.from({ length: 16_385 }, () => ({ role: "user", content: "a" }));
    expect(rendered("x", chat(many))).toBe("template-unsupported");
    const raising = "{{ raise_exception('secret: ' + messages[0].content) }}";
    const template = new ChatTemplate({ plain: raising, withTools: raising }, portsOf());
    const result = template.render(chat([{ role: "user", content: "my words" }]));
    expect(result).toMatchObject({ ok: false, reason: "template-failed" });
    expect(JSON.stringify(result)).not.toContain("words");
  });
});
