/** Whether a body is read as JSON.parse reads it, and neither it nor the rendering of its chat throws. */
import { nodeClock } from "../../src/core/node-clock.ts";
import { ChatTemplate } from "../../src/prompt/chat-template.ts";
import { ENGINES, engineRules } from "../../src/prompt/engine-rules.ts";
import { tokenizeBody } from "../../src/prompt/engine-tokenizer.ts";
import { parseJsonBody } from "../../src/prompt/json-body.ts";
import { readRequestBody } from "../../src/prompt/request-body.ts";
import type { BodySample } from "./body-samples.ts";

/** Looks at all that a template is given. */
const TEMPLATE =
  "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{{ m | tojson }}{% endfor %}" +
  "{{ tools | tojson if tools }}{{ documents | tojson if documents }}{{ reasoning_effort }}";
const READERS = ENGINES.map((engine) => {
  const rules = engineRules({ engine, engineVersion: null });
  const deps = { special: {}, rules, clock: nodeClock };
  return { rules, template: new ChatTemplate({ plain: TEMPLATE, withTools: TEMPLATE }, deps) };
});

/** "accepted", or the reason of the refusal; throws where the reading differs from JSON.parse. */
export function checkBody({ path, tokensField, body }: BodySample): string {
  const read = readRequestBody(path, body);
  if (tokensField !== null) compare(body, tokensField);
  const prompt = read.ok && read.value.prompt.ok ? read.value.prompt.value : null;
  if (prompt?.kind === "chat") {
    for (const { rules, template } of READERS) {
      template.render(prompt.chat);
      tokenizeBody({ model: "m", prompt }, rules);
    }
  }
  return read.ok ? "accepted" : read.reason;
}

function compare(body: Uint8Array, field: string): void {
  const text = Buffer.from(body).toString("utf8");
  let expected: unknown = null;
  try {
    expected = JSON.parse(text.startsWith("\ufeff") ? text.slice(1) : text);
  } catch {}
  const fields = parseJsonBody(body, field);
  const isObject = typeof expected === "object" && expected !== null && !Array.isArray(expected);
  const read = fields.ok
    ? JSON.stringify(fields.value, (_, each) => (each instanceof Uint32Array ? [...each] : each))
    : null;
  if (read !== (isObject ? JSON.stringify(expected) : null)) {
    throw new Error("the body is not read as JSON.parse reads it");
  }
}
