/** The messages of a chat body as the template wants them. */
import { ok, type Result, refused } from "../../core/result.ts";
import { isObject, type JsonObject } from "./json-object.ts";
import type { ChatMessage, ChatPrompt } from "./tokenizer.ts";

/** Joins the text parts of a message, as vLLM does for templates that want a string. */
const PART_SEPARATOR = "\n";

export function parseChat(body: JsonObject): Result<ChatPrompt, "bad_request"> {
  const list = body["messages"];
  if (!Array.isArray(list) || list.length === 0) {
    return refused("bad_request", "messages must be a list with at least one message.");
  }
  const messages: ChatMessage[] = [];
  for (const item of list as readonly unknown[]) {
    const message = parseMessage(item);
    if (!message.ok) return message;
    messages.push(message.value);
  }
  return ok({
    messages,
    tools: body["tools"],
    isGenerationPromptAdded: body["add_generation_prompt"] !== false,
  });
}

function parseMessage(item: unknown): Result<ChatMessage, "bad_request"> {
  if (!isObject(item) || typeof item["role"] !== "string") {
    return refused("bad_request", "Each message must be an object with a role.");
  }
  const content = contentText(item["content"]);
  if (content === null) {
    return refused("bad_request", "content must be a string or a list of text parts.");
  }
  return ok({ role: item["role"], content, toolCalls: item["tool_calls"] });
}

function contentText(content: unknown): string | null {
  if (content === undefined || content === null) return "";
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return null;
  const texts: string[] = [];
  for (const part of content as readonly unknown[]) {
    if (typeof part === "string") texts.push(part);
    else if (isObject(part) && typeof part["text"] === "string") texts.push(part["text"]);
    else return null;
  }
  return texts.join(PART_SEPARATOR);
}
