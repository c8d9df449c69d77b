/**
 * `/v1/messages` (Anthropic's API): turned into the messages that the chat template sees, as vLLM
 * does it: system texts joined, tool results as messages of their own before what the user says beside
 * them.
 */
import { type Result, refused } from "../core/result.ts";
import { chatOf, templateArgsOf } from "./chat-body.ts";
import {
  BILLING_HEADER,
  type BodyRefusal,
  type Fields,
  isFields,
  isGiven,
  listOrNull,
  type Prompt,
  textOrNull,
} from "./prompt-fields.ts";

type MutableMessage = Record<string, unknown>;

export function readMessagesBody(fields: Fields): Result<Prompt, BodyRefusal> {
  const given = listOrNull(fields["messages"]);
  if (given === null || !given.every(isFields)) {
    return refused("no-prompt", "field messages is not a list of messages");
  }
  const system = systemMessages(fields["system"]);
  const { output_config: output, thinking } = fields;
  const messages = given.flatMap((message) =>
    message["role"] === "system" ? inlineSystem(message["content"]) : messagesOf(message),
  );
  return chatOf([...system, ...messages], {
    tools: toolsOf(fields["tools"]),
    body: fields,
    documents: null,
    template: null,
    api: "messages",
    templateArgs: templateArgsOf(fields),
    effort: isFields(output) ? textOrNull(output["effort"]) : null,
    isThinkingOff: isFields(thinking) && thinking["type"] === "disabled",
    isGenerationPromptAdded: true,
    isFinalMessageContinued: false,
    isSpecialAdded: false,
  });
}

function systemMessages(system: unknown): MutableMessage[] {
  const blocks = (listOrNull(system) ?? []).map((block) =>
    isFields(block) && block["type"] === "text" ? block["text"] : null,
  );
  const texts = typeof system === "string" ? [system] : blocks.filter(isSystemText);
  const content = texts.join("");
  return content === "" ? [] : [{ role: "system", content }];
}

/** Where it stands; whether it stays there is the engine's matter. */
function inlineSystem(content: unknown): MutableMessage[] {
  return systemMessages(typeof content === "string" ? [{ type: "text", text: content }] : content);
}

function isSystemText(text: unknown): text is string {
  return typeof text === "string" && !text.startsWith(BILLING_HEADER);
}

/** A message, after the tool results in it; blocks that are not understood stay, and are refused. */
function messagesOf(message: Fields): MutableMessage[] {
  const { role, content } = message;
  if (!Array.isArray(content)) return [{ role, content }];
  const blocks = content.filter(isFields);
  const results = role === "user" ? blocks.filter(({ type }) => type === "tool_result") : [];
  const reasoning = blocks
    .filter(({ type }) => type === "thinking")
    .map(({ thinking }) => String(thinking));
  const calls = blocks.filter(({ type }) => type === "tool_use").map(callOf);
  const parts = blocks.filter(
    (block) => !isBeside(block, role) && !(block["type"] === "text" && block["text"] === ""),
  );
  const said: MutableMessage = { role };
  if (reasoning.length > 0) said["reasoning"] = reasoning.join("");
  if (calls.length > 0) said["tool_calls"] = calls;
  if (parts.length > 0) said["content"] = contentOf(parts);
  const isSaid = role !== "user" || parts.length > 0;
  return [...results.map(resultOf), ...(isSaid ? [said] : [])];
}

/** Whether a block is no part of the content. */
function isBeside({ type }: Fields, role: unknown): boolean {
  const names = ["thinking", "redacted_thinking", "tool_use", "tool_reference"];
  return names.includes(String(type)) || (type === "tool_result" && role === "user");
}

function contentOf(parts: readonly Fields[]): unknown {
  const [only] = parts;
  return parts.length === 1 && only !== undefined && only["type"] === "text" ? only["text"] : parts;
}

function callOf({ id, name, input }: Fields): Fields {
  const args = JSON.stringify(isFields(input) ? input : {});
  return { id, type: "function", function: { name, arguments: args } };
}

function resultOf({ tool_use_id: id, content }: Fields): MutableMessage {
  const parts = listOrNull(content);
  if (parts === null) return { role: "tool", tool_call_id: id, content: content ?? "" };
  const isText = parts.every((part) => isFields(part) && part["type"] === "text");
  // Images in a result follow it as a message of their own: left in place, they are refused.
  const text = parts.map((part) => (isFields(part) ? String(part["text"]) : "")).join("\n");
  return { role: "tool", tool_call_id: id, content: isText ? text : parts };
}

function toolsOf(tools: unknown): readonly unknown[] | null {
  const given = (listOrNull(tools) ?? []).filter(isFields);
  if (given.length === 0) return null;
  return given.map(({ name, description, input_schema: schema, strict, defer_loading: defer }) => ({
    type: "function",
    function: {
      name,
      description,
      parameters: isFields(schema) && !Object.hasOwn(schema, "type") ? typed(schema) : schema,
      ...(isGiven(strict) ? { strict } : {}),
      ...(isGiven(defer) ? { defer_loading: defer } : {}),
    },
  }));
}

function typed(schema: Fields): Fields {
  return { ...schema, type: "object" };
}
