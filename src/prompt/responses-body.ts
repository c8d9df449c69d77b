/**
 * `/v1/responses`: input items become the messages that the chat template sees, as vLLM does it.
 * What an assistant said in several items (text, reasoning, calls) is one message.
 */
import { type Result, refused } from "../core/result.ts";
import { chatOf, templateArgsOf, textOfPart } from "./chat-body.ts";
import {
  type BodyRefusal,
  type Fields,
  isFields,
  listOrNull,
  type Prompt,
  textOrNull,
} from "./prompt-fields.ts";

const STATEFUL = ["previous_response_id", "conversation", "prompt"] as const;

type MutableMessage = Record<string, unknown>;

export function readResponsesBody(fields: Fields): Result<Prompt, BodyRefusal> {
  const stateful = STATEFUL.find((name) => fields[name] !== undefined && fields[name] !== null);
  if (stateful !== undefined) return refused("stateful", `field ${stateful} names earlier input`);
  const instructions = textOrNull(fields["instructions"]);
  const system = instructions === null ? [] : [{ role: "system", content: instructions }];
  const input = inputMessages(fields["input"]);
  if (input === null) return refused("no-prompt", "field input is neither text nor items");
  const { reasoning } = fields;
  const isContinued = isCutShort(listOrNull(fields["input"])?.at(-1));
  return chatOf([...system, ...input], {
    tools: toolsOf(fields["tools"]),
    body: fields,
    documents: null,
    template: null,
    api: "responses",
    templateArgs: templateArgsOf(fields),
    effort: isFields(reasoning) ? textOrNull(reasoning["effort"]) : null,
    isThinkingOff: false,
    isGenerationPromptAdded: !isContinued,
    isFinalMessageContinued: isContinued,
    isSpecialAdded: false,
  });
}

/** Whether the last item is an answer to go on with. */
function isCutShort(item: unknown): boolean {
  if (!isFields(item) || !["message", "reasoning"].includes(String(item["type"] ?? "message"))) {
    return false;
  }
  return item["status"] === "in_progress" || item["status"] === "incomplete";
}

function inputMessages(input: unknown): MutableMessage[] | null {
  if (typeof input === "string") return [{ role: "user", content: input }];
  const messages: MutableMessage[] = [];
  for (const item of listOrNull(input) ?? []) {
    if (!isFields(item)) return null;
    const last = messages.at(-1);
    if (last === undefined || last["role"] !== "assistant" || !isMerged(last, item)) {
      messages.push(messageOf(item));
    }
  }
  return messages.length === 0 ? null : messages;
}

function messageOf(item: Fields): MutableMessage {
  switch (item["type"]) {
    case "function_call":
      return { role: "assistant", tool_calls: [callOf(item)] };
    case "function_call_output":
      return { role: "tool", content: item["output"], tool_call_id: item["call_id"] };
    case "reasoning":
      return { role: "assistant", reasoning: reasoningOf(item) };
    default:
      return item["role"] === "assistant"
        ? { role: "assistant", content: assistantText(item) }
        : { ...item };
  }
}

/** Adds an assistant's item to its message before, where that has no such part yet. */
function isMerged(last: MutableMessage, item: Fields): boolean {
  if (item["type"] === "function_call") {
    last["tool_calls"] = [...(listOrNull(last["tool_calls"]) ?? []), callOf(item)];
    return true;
  }
  if (item["type"] === "reasoning") {
    if (last["reasoning"] !== undefined) return false;
    last["reasoning"] = reasoningOf(item);
    return true;
  }
  if (item["role"] !== "assistant" || last["content"] !== undefined) return false;
  last["content"] = assistantText(item);
  return true;
}

function callOf({ call_id: id, name, arguments: args }: Fields): Fields {
  return { id, type: "function", function: { name, arguments: args } };
}

function reasoningOf(item: Fields): string {
  const [first] = [...(listOrNull(item["content"]) ?? []), ...(listOrNull(item["summary"]) ?? [])];
  const text = isFields(first) ? first["text"] : first;
  return typeof text === "string" ? text : "";
}

/** The engine takes the first part of what an assistant said. */
function assistantText({ content }: Fields): string {
  if (typeof content === "string") return content;
  return textOfPart(listOrNull(content)?.[0]) ?? "";
}

/** Flat tools in the form of chat completions; those of the server's own are not shown to it. */
function toolsOf(tools: unknown): readonly unknown[] | null {
  const functions = (listOrNull(tools) ?? []).filter(
    (tool): tool is Fields => isFields(tool) && tool["type"] === "function",
  );
  if (functions.length === 0) return null;
  return functions.map(({ type, ...rest }) => ({ type, function: rest }));
}
