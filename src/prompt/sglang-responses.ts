/** `/v1/responses` in the form of chat completions, as SGLang does it. Throws TemplateGap. */
import type { RulesOfTemplate } from "./engine-rules.ts";
import { type Fields, isFields, isGiven, listOrNull, textOrNull } from "./prompt-fields.ts";
import { TemplateGap } from "./python-values.ts";

/** Put before the text of a developer, who becomes the system. */
const DEVELOPER_LABEL = "Developer instructions:";

export function sglangResponses(body: Fields, { rules, isSystemMerged }: RulesOfTemplate): Fields {
  const instructions = textOrNull(body["instructions"]);
  const { input } = body;
  const items = typeof input === "string" ? [{ role: "user", content: input }] : listOrNull(input);
  const messages = (items ?? []).filter(isFields).flatMap(messagesOf);
  const given = [
    ...(instructions === null ? [] : [{ role: "system", content: instructions }]),
    ...messages,
  ];
  const whole = mergedAnswers(given, { isPhaseKept: !rules.has("thought-in-any-phase") });
  const isPlaceKept = rules.has("responses-system-in-place");
  const tools = (listOrNull(body["tools"]) ?? []).filter(isFields).flatMap(toolsOf);
  const { reasoning, chat_template_kwargs: args } = body;
  const isNone =
    isFields(reasoning) && (reasoning["effort"] || reasoning["reasoning_effort"]) === "none";
  const kwargs = {
    ...(isNone ? { thinking: false, enable_thinking: false } : {}),
    ...(isFields(args) ? args : {}),
  };
  return {
    messages: systemPlaced(whole, isPlaceKept ? isSystemMerged : true),
    ...(tools.length === 0 ? {} : { tools, tool_choice: choiceOf(body["tool_choice"]) }),
    ...(isFields(reasoning) ? { reasoning_effort: effortOf(reasoning) } : {}),
    ...(Object.keys(kwargs).length === 0 ? {} : { chat_template_kwargs: kwargs }),
  };
}

function effortOf(reasoning: Fields): unknown {
  return reasoning["effort"] === undefined ? "medium" : reasoning["effort"];
}

function messagesOf(item: Fields): Fields[] {
  switch (item["type"] ?? "message") {
    case "message":
      return [messageOf(item)];
    case "function_call":
      return [{ role: "assistant", tool_calls: [callOf(item)] }];
    case "function_call_output":
      return [{ role: "tool", tool_call_id: item["call_id"], content: outputOf(item["output"]) }];
    case "reasoning":
      return thoughtOf(item);
    default:
      throw new TemplateGap(`an item of type ${String(item["type"])}`);
  }
}

function messageOf({ id: _, status: __, type: ___, ...item }: Fields): Fields {
  const isDeveloper = item["role"] === "developer";
  const content = isDeveloper ? labelled(item["content"]) : item["content"];
  const parts = listOrNull(content)?.map((part) =>
    isFields(part) && ["input_text", "output_text"].includes(String(part["type"]))
      ? { type: "text", text: part["text"] ?? "" }
      : part,
  );
  return { ...item, ...(isDeveloper ? { role: "system" } : {}), content: parts ?? content };
}

function labelled(content: unknown): unknown {
  if (typeof content === "string") return `${DEVELOPER_LABEL}\n${content}`;
  const parts = listOrNull(content);
  if (parts === null) return content;
  const at = parts.findIndex((part) => isFields(part) && typeof part["text"] === "string");
  const first = parts[at];
  return isFields(first)
    ? parts.with(at, { ...first, text: `${DEVELOPER_LABEL}\n${String(first["text"])}` })
    : [{ type: "input_text", text: DEVELOPER_LABEL }, ...parts];
}

function callOf({ call_id: callId, id, name, arguments: args }: Fields): Fields {
  return {
    id: textOrNull(callId) ?? id ?? null,
    type: "function",
    function: { name, arguments: isFields(args) ? args : objectOrNone(args) },
  };
}

/** What is no object is an empty one. */
function objectOrNone(json: unknown): Fields {
  try {
    const parsed: unknown = typeof json === "string" ? JSON.parse(json) : null;
    return isFields(parsed) ? parsed : {};
  } catch {
    return {};
  }
}

function outputOf(output: unknown): unknown {
  const parts = listOrNull(output);
  if (parts === null) return output ?? "";
  return parts.map((part) => (isFields(part) ? (part["text"] ?? "") : "")).join("");
}

function thoughtOf({ summary, content, encrypted_content: encrypted }: Fields): Fields[] {
  const textsIn = (parts: unknown): unknown[] =>
    (listOrNull(parts) ?? []).filter(isFields).flatMap(({ text }) => (text ? [text] : []));
  const inSummary = textsIn(summary);
  const texts = inSummary.length > 0 ? inSummary : textsIn(content);
  if (texts.length === 0 && isGiven(encrypted)) throw new TemplateGap("reasoning that is packed");
  return texts.length === 0 ? [] : [{ role: "assistant", reasoning_content: texts.join("\n") }];
}

/** Answers one after the other are one, unless they are of different phases. */
function mergedAnswers(
  messages: readonly Fields[],
  phases: { readonly isPhaseKept: boolean },
): Fields[] {
  const merged: Fields[] = [];
  for (const message of messages) {
    const last = merged.at(-1);
    if (
      last?.["role"] === "assistant" &&
      message["role"] === "assistant" &&
      isOneTurn(last, message, phases)
    ) {
      merged[merged.length - 1] = together(last, message);
    } else merged.push(message);
  }
  return merged;
}

function isOneTurn(
  last: Fields,
  message: Fields,
  { isPhaseKept }: { readonly isPhaseKept: boolean },
): boolean {
  const isThought = Object.keys(last).sort().join() === "reasoning_content,role";
  return (isThought && !isPhaseKept) || (last["phase"] ?? null) === (message["phase"] ?? null);
}

function together(last: Fields, message: Fields): Fields {
  const made: Record<string, unknown> = { ...last };
  if (isGiven(message["phase"])) made["phase"] = message["phase"];
  if (isGiven(message["content"]) && message["content"] !== "") {
    made["content"] = contentTogether(last["content"], message["content"]);
  }
  const calls = listOrNull(message["tool_calls"]) ?? [];
  if (calls.length > 0) made["tool_calls"] = [...(listOrNull(last["tool_calls"]) ?? []), ...calls];
  const [before, thought] = [last["reasoning_content"], message["reasoning_content"]];
  if (thought)
    made["reasoning_content"] = before ? `${String(before)}\n${String(thought)}` : thought;
  return made;
}

function contentTogether(before: unknown, content: unknown): unknown {
  if (!isGiven(before) || before === "") return content;
  if (typeof before === "string" && typeof content === "string") return `${before}\n\n${content}`;
  return [...partsOf(before), ...partsOf(content)];
}

function partsOf(content: unknown): readonly unknown[] {
  if (typeof content === "string") return content === "" ? [] : [{ type: "text", text: content }];
  return listOrNull(content) ?? [];
}

function systemPlaced(
  messages: readonly Fields[],
  isSystemMerged: boolean | null,
): readonly Fields[] {
  const isSystem = ({ role }: Fields): boolean => role === "system";
  if (isSystemMerged === false || messages.findLastIndex(isSystem) === -1) return messages;
  const texts = messages.filter(isSystem).flatMap(({ content }) => systemTexts(content));
  const isAsGiven =
    messages.findLastIndex(isSystem) === 0 && typeof messages[0]?.["content"] === "string";
  if (isSystemMerged === null && !isAsGiven) throw new TemplateGap("system messages within a chat");
  const rest = messages.filter((message) => !isSystem(message));
  return texts.length === 0 ? rest : [{ role: "system", content: texts.join("\n\n") }, ...rest];
}

function systemTexts(content: unknown): string[] {
  if (typeof content === "string") return [content];
  return (listOrNull(content) ?? [])
    .filter(isFields)
    .flatMap(({ text }) => (typeof text === "string" ? [text] : []));
}

function toolsOf({ type, name, description = null, parameters = null, strict }: Fields): Fields[] {
  if (type === "custom") throw new TemplateGap("a custom tool");
  if (type !== "function") return [];
  return [{ type, function: { name, description, parameters, strict: strict ?? false } }];
}

/** Only a function can be named; other choices are the model's own. */
function choiceOf(choice: unknown): unknown {
  if (!isFields(choice)) return choice ?? "auto";
  const called = isFields(choice["function"]) ? choice["function"]["name"] : null;
  const name = choice["name"] ?? called;
  if (choice["type"] !== "function" || !isGiven(name)) return "auto";
  return { type: "function", function: { name } };
}
