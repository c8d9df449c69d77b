/**
 * A chat as SGLang hands it to the template, whichever API it came by. Read from SGLang's sources
 * and seen in what the classes of 0.5.20 to 0.5.23 make of bodies; what depends on how the server was started is a gap.
 * Pure. Everything here throws TemplateGap where the engine's answer is not known, or is a refusal.
 */
import type { EngineRules, RulesOfTemplate } from "./engine-rules.ts";
import { type Chat, type Fields, isFields, isGiven, listOrNull } from "./prompt-fields.ts";
import { strip } from "./python-text.ts";
import { TemplateGap } from "./python-values.ts";
import { sglangMessages } from "./sglang-messages.ts";
import { sglangResponses } from "./sglang-responses.ts";
import { RESERVED_ARGS, type TemplateInput } from "./template-input.ts";
import type { TemplateTraits } from "./template-traits.ts";

const EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"];
const ON_WORDS = ["1", "true", "yes", "y", "on"];
const OWN_ARGS = [
  ...[...RESERVED_ARGS, "tools", "add_generation_prompt", "return_dict", "continue_final_message"],
  ...["padding", "truncation", "max_length", "return_tensors", "tokenizer_kwargs"],
  ...["processor_kwargs", "return_assistant_tokens_mask"],
];
/** Fields of a chat request that its prompt depends on. */
const CHAT_FIELDS = [
  ...["messages", "tools", "tool_choice", "reasoning_effort", "reasoning"],
  ...["continue_final_message", "chat_template_kwargs"],
] as const;
const SCHEMA_TYPES = ["string", "number", "integer", "boolean", "object", "array", "null"];

/** The request in the form of chat completions, which SGLang makes of every API, and `/tokenize` takes. */
export function sglangRequest({ api, body }: Chat, of: RulesOfTemplate): Fields {
  if (api === "messages") return sglangMessages(body, of);
  if (api === "responses") return sglangResponses(body, of);
  const given = CHAT_FIELDS.flatMap((name) => (isGiven(body[name]) ? [[name, body[name]]] : []));
  return Object.fromEntries(given);
}

export function sglangInput(chat: Chat, of: RulesOfTemplate): TemplateInput {
  const { rules } = of;
  const request = sglangRequest(chat, of);
  if (![undefined, false].includes(request["continue_final_message"] as undefined)) {
    throw new TemplateGap("an answer to go on with");
  }
  const messages = (listOrNull(request["messages"]) ?? [])
    .filter(isFields)
    .map((each) => readMessage(each, rules));
  const tools = toolsOf(request, messages, rules);
  const args = argsOf(request);
  const reserved = OWN_ARGS.find((name) => Object.hasOwn(args, name));
  if (reserved !== undefined) throw new TemplateGap(`${reserved} as an argument`);
  return {
    messagesFor: (traits): readonly Fields[] => {
      if (traits.hasLowEffort && args["reasoning_effort"] === "low") {
        throw new TemplateGap("low effort as an argument of its own");
      }
      return answerAsQuestion(messages.map((message) => templateMessage(message, traits)));
    },
    tools,
    toolsOtherwise: tools === null ? null : tools.map((tool) => tool["function"]),
    documents: listOrNull(args["documents"]),
    args,
    isGenerationPromptAdded: true,
    isSpecialAdded: false,
  };
}

/** Known fields in the order of SGLang's types; null where there is none. */
function readMessage(message: Fields, rules: EngineRules): Fields {
  const { role, content = null } = message;
  if (role === "user") return { role, content };
  const of = (name: string): unknown => message[name] ?? null;
  const calls = listOrNull(of("tool_calls"));
  const tools = listOrNull(of("tools"));
  return {
    role: String(role).toLowerCase(),
    content,
    ...{ tool_call_id: of("tool_call_id"), name: of("name"), phase: of("phase") },
    reasoning_content: of("reasoning_content"),
    tool_calls: calls?.map((call) => readCall(call, role)) ?? null,
    tools: tools?.map((tool) => readTool(tool, rules)) ?? null,
    prefix: rules.has("message-prefix") ? of("prefix") : null,
  };
}

function readCall(call: unknown, role: unknown): Fields {
  if (!isFields(call) || !isFields(call["function"])) throw new TemplateGap("a call without name");
  const { id = null, index = null, type = "function", function: called } = call;
  const { name = null, arguments: written = null } = called;
  const isRead = typeof written === "string" && String(role).toLowerCase() === "assistant";
  return { id, index, type, function: { name, arguments: isRead ? objectOf(written) : written } };
}

function objectOf(json: string): Fields {
  try {
    const parsed: unknown = JSON.parse(json);
    if (isFields(parsed)) return parsed;
  } catch {
    // As what is no object: SGLang refuses it.
  }
  throw new TemplateGap("arguments of a call that are no JSON object");
}

function templateMessage(message: Fields, { isContentListed }: TemplateTraits): Fields {
  const { content, ...rest } = message;
  const parts = listOrNull(content);
  const text = parts === null ? (content ?? "") : joinedContent(message, parts, isContentListed);
  const isLast = parts !== null && isContentListed;
  const whole = isLast ? { ...rest, content: text } : { ...message, content: text };
  return Object.fromEntries(Object.entries(whole).filter(([, value]) => value !== null));
}

function joinedContent(
  { role }: Fields,
  parts: readonly unknown[],
  isContentListed: boolean,
): unknown {
  // Thoughts among the parts reach no template.
  const texts = parts
    .filter(isFields)
    .filter(({ type }) => type === "text")
    .map(({ text }) => text);
  return isContentListed && role !== "tool"
    ? texts.map((text) => ({ type: "text", text }))
    : texts.join(" ");
}

/** SGLang takes an answer at the end for a question, unless it is to go on with it. */
function answerAsQuestion(messages: readonly Fields[]): readonly Fields[] {
  const last = messages.at(-1);
  if (last?.["role"] !== "assistant" || typeof last["content"] !== "string") return messages;
  return [...messages.slice(0, -1), { role: "user", content: last["content"] }];
}

function toolsOf(
  request: Fields,
  messages: readonly Fields[],
  rules: EngineRules,
): readonly Fields[] | null {
  const given = listOrNull(request["tools"]) ?? [];
  const choice = request["tool_choice"] ?? "auto";
  const isWithMessages = messages.some(({ tools }) => (listOrNull(tools) ?? []).length > 0);
  if (choice === "none" || (given.length === 0 && !isWithMessages)) return null;
  const tools = given.map((tool) => readTool(tool, rules));
  if (typeof choice === "string") return tools.length === 0 ? null : tools;
  const named =
    isFields(choice) && isFields(choice["function"]) ? choice["function"]["name"] : null;
  const chosen = tools.filter(
    (tool) => isFields(tool["function"]) && tool["function"]["name"] === named,
  );
  if (chosen.length === 0) throw new TemplateGap("a choice of a tool that is not there");
  return chosen;
}

/** A function's known fields in the order of the request, and behind them what SGLang fills in. */
function readTool(tool: unknown, rules: EngineRules): Fields {
  if (!isFields(tool) || !isFields(tool["function"])) throw new TemplateGap("a tool without name");
  const { type = "function", function: given, defer_loading: defer = null } = tool;
  const { description = null, name, parameters = null, strict = null } = given;
  const ownDefer = given["defer_loading"] ?? defer;
  const known: Fields = {
    ...{ description, name, parameters },
    ...(strict === null ? {} : { strict }),
    ...(ownDefer === null ? {} : { defer_loading: ownDefer }),
  };
  if (hasTypeOfItsOwn(parameters)) throw new TemplateGap("a type that JSON Schema has not");
  if (!rules.has("given-tool-fields")) {
    const { defer_loading: deferred, ...plain } = known;
    const filled = { ...plain, strict: strict ?? false };
    const fields = deferred === undefined ? filled : { ...filled, defer_loading: deferred };
    return { type, function: fields, defer_loading: defer };
  }
  const order = [...Object.keys(given), ...Object.keys(known)];
  const fields = order.flatMap((field) => (field in known ? [[field, known[field]]] : []));
  return { type, function: Object.fromEntries(fields), defer_loading: defer };
}

/** SGLang renames types such as "int" to those of JSON Schema, in a table of its own. */
function hasTypeOfItsOwn(schema: unknown): boolean {
  if (Array.isArray(schema)) return schema.some(hasTypeOfItsOwn);
  if (!isFields(schema)) return false;
  const { type } = schema;
  const types = typeof type === "string" ? [type] : (listOrNull(type) ?? []);
  const isKnown = types.every((each) => SCHEMA_TYPES.includes(String(each)));
  return (
    !isKnown || new Set(types).size < types.length || Object.values(schema).some(hasTypeOfItsOwn)
  );
}

/** Reasoning that is asked for turns thinking on or off by the two names that templates know. */
function argsOf(request: Fields): Fields {
  const { chat_template_kwargs: kwargs } = request;
  const { reasoning_effort: named = null, ...given } = isFields(kwargs) ? kwargs : {};
  const reasoning = isFields(request["reasoning"]) ? request["reasoning"] : {};
  const asked = reasoning["effort"] ?? reasoning["reasoning_effort"] ?? request["reasoning_effort"];
  const effort = isGiven(asked) ? effortOf(asked) : null;
  const isEnabled = isOn(reasoning["enabled"] ?? reasoning["enable"]);
  const thinking = effort === null ? (isEnabled ? true : null) : effort !== "none";
  return {
    ...(thinking === null ? {} : { thinking, enable_thinking: thinking }),
    ...given,
    ...((named ?? effort) === null ? {} : { reasoning_effort: named ?? effort }),
  };
}

function effortOf(value: unknown): string | number {
  if (typeof value === "string" && EFFORTS.includes(value)) return value;
  const effort = Number(value);
  // Zero is written with a fraction there.
  if (effort > 0 && effort <= 0.99 && typeof value !== "boolean") return effort;
  throw new TemplateGap("a reasoning effort of its own");
}

function isOn(value: unknown): boolean {
  if (typeof value === "string") return ON_WORDS.includes(strip(value, null).toLowerCase());
  return value !== undefined && value !== null && value !== false && value !== 0;
}
