/**
 * Messages and tools of a chat as vLLM hands them to the template, by the rules of its version. Pure.
 */
import { textOfPart } from "./chat-body.ts";
import type { EngineRules } from "./engine-rules.ts";
import {
  BILLING_HEADER,
  type Chat,
  type Fields,
  isFields,
  isGiven,
  listOrNull,
} from "./prompt-fields.ts";
import { TemplateGap } from "./python-values.ts";
import type { TemplateTraits } from "./template-traits.ts";

/** Throws TemplateGap where the engine's answer is not known. */
export function templateMessages(
  { messages, api }: Pick<Chat, "messages" | "api">,
  traits: TemplateTraits,
  rules: EngineRules,
): readonly Fields[] {
  const given = messages.map((message) => templateMessage(message, api, traits, rules));
  const hasDeveloper = given.some(({ role }) => role === "developer");
  if (!hasDeveloper || traits.isDeveloperKnown || !rules.has("developer-as-system")) return given;
  return systemAsOne(
    given.map((message) =>
      message["role"] === "developer" ? { ...message, role: "system" } : message,
    ),
  );
}

function templateMessage(
  message: Fields,
  api: Chat["api"],
  { isContentListed }: TemplateTraits,
  rules: EngineRules,
): Fields {
  const { role, content, reasoning, reasoning_content: reasoningContent } = message;
  const parts = (typeof content === "string" ? [content] : (listOrNull(content) ?? [])).map(
    (part) => textOfPart(part) ?? "",
  );
  const isStripped = role === "system" && rules.has("billing-header");
  const texts = isStripped ? parts.flatMap(withoutHeader) : parts;
  const isOneText = !isContentListed || (role === "tool" && rules.has("tool-result-text"));
  const said: Record<string, unknown> = {
    role,
    content: isOneText
      ? // Parts that are text stay in their list where they are empty, and then have their line.
        texts.filter((text) => isContentListed || text !== "").join("\n")
      : texts.map((text) => ({ type: "text", text })),
  };
  if (role === "assistant") {
    const calls = listOrNull(message["tool_calls"]);
    if (calls !== null && calls.length > 0) {
      said["tool_calls"] = calls.map((call) => templateCall(call, api, rules));
    }
    const thought = reasoning ?? reasoningContent;
    if (typeof thought === "string") {
      said["reasoning"] = thought;
      said["reasoning_content"] = thought;
    }
  }
  if (role === "tool" && message["tool_call_id"] !== undefined) {
    said["tool_call_id"] = message["tool_call_id"];
  }
  if (typeof message["name"] === "string") said["name"] = message["name"];
  const { reasoning: thinking } = said;
  return thinking === undefined || !rules.has("reasoning-as-thinking")
    ? said
    : { thinking, ...said };
}

function withoutHeader(text: string): string[] {
  if (!text.startsWith(BILLING_HEADER)) return [text];
  const end = text.indexOf("\n");
  const rest = end === -1 ? "" : text.slice(end + 1);
  return rest === "" ? [] : [rest];
}

/** Fields in the order of the types with which vLLM reads them: what it writes has that order. */
function templateCall(call: unknown, api: Chat["api"], rules: EngineRules): unknown {
  if (!isFields(call) || !isFields(call["function"])) return call;
  const { id, function: called, type, ...others } = call;
  const { name, arguments: written, ...rest } = called;
  const args = callArguments(written, rules);
  return {
    ...(id === undefined ? {} : { id }),
    function: api === "responses" ? { name, arguments: args } : { arguments: args, name, ...rest },
    type: type ?? "function",
    ...others,
  };
}

function callArguments(written: unknown, rules: EngineRules): unknown {
  if (!isGiven(written) || written === "") return {};
  const isObject = rules.has("call-arguments-object");
  const parsed = typeof written === "string" ? parsedArguments(written, isObject) : written;
  return isFields(parsed) || !isObject ? parsed : {};
}

function parsedArguments(text: string, isObject: boolean): unknown {
  try {
    return JSON.parse(text);
  } catch {
    if (isObject) return {};
    throw new TemplateGap("arguments of a call that are no JSON");
  }
}

/** All system messages are one at the beginning, unless there is only that one. */
function systemAsOne(messages: readonly Fields[]): readonly Fields[] {
  const isSystem = ({ role }: Fields): boolean => role === "system";
  if (messages.findLastIndex(isSystem) <= 0) return messages;
  const texts = messages.filter(isSystem).map(({ content }) => textOfContent(content));
  const content = texts.filter((text) => text !== "").join("\n\n");
  return [{ role: "system", content }, ...messages.filter((message) => !isSystem(message))];
}

function textOfContent(content: unknown): string {
  if (typeof content === "string") return content;
  return (listOrNull(content) ?? []).map((part) => textOfPart(part) ?? "").join("\n");
}

/** With the fields that vLLM fills in, in its order. */
export function templateTool(tool: unknown, rules: EngineRules): unknown {
  if (!isFields(tool) || !isFields(tool["function"])) return tool;
  const { type, function: given, ...rest } = tool;
  const { name, description = null, parameters = null, ...others } = given;
  const described = { name, description, parameters };
  const isKnownOnly = rules.has("known-tool-fields");
  if (!rules.has("tool-flags")) {
    return { type: type ?? "function", function: { ...described, ...others }, ...rest };
  }
  const { strict, defer_loading: ownDefer, ...unknown } = others;
  const { defer_loading: defer, ...unknownOfTool } = rest;
  const isDeferred = ownDefer ?? defer;
  return {
    type: type ?? "function",
    function: {
      ...described,
      ...(isGiven(strict) ? { strict } : {}),
      ...(isGiven(isDeferred) ? { defer_loading: isDeferred } : {}),
      ...(isKnownOnly ? {} : unknown),
    },
    ...(isGiven(defer) ? { defer_loading: defer } : {}),
    ...(isKnownOnly ? {} : unknownOfTool),
  };
}
