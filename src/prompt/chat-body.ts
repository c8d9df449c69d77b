/** `/v1/chat/completions`: messages and what else the chat template sees. */
import { ok, type Result, refused } from "../core/result.ts";
import {
  type BodyRefusal,
  booleanOrNull,
  type Chat,
  type Fields,
  isFields,
  listOrNull,
  type Prompt,
  textOrNull,
  tokenIdsOf,
} from "./prompt-fields.ts";

/** `isGenerating`: of an API that answers with text, so that the template begins the answer. */
export function readChatBody(
  fields: Fields,
  { isGenerating }: { readonly isGenerating: boolean },
): Result<Prompt, BodyRefusal> {
  if (typeof fields["truncate_prompt_tokens"] === "number") {
    return refused("truncated", "truncate_prompt_tokens cuts the prompt in the engine");
  }
  const chat = chatOf(fields["messages"], {
    tools: listOrNull(fields["tools"]),
    body: fields,
    documents: listOrNull(fields["documents"]),
    template: typeof fields["chat_template"] === "string" ? fields["chat_template"] : null,
    api: "chat",
    templateArgs: templateArgsOf(fields),
    effort: textOrNull(fields["reasoning_effort"]),
    isThinkingOff: false,
    isGenerationPromptAdded: booleanOrNull(fields["add_generation_prompt"]) ?? isGenerating,
    isFinalMessageContinued: booleanOrNull(fields["continue_final_message"]) ?? false,
    isSpecialAdded: booleanOrNull(fields["add_special_tokens"]) ?? false,
  });
  const forwarded = forwardedTokens(fields);
  return chat.ok && forwarded !== null ? ok({ ...chat.value, forwarded }) : chat;
}

/** Null where there are none, or what is none of the engine's: it refuses those. */
function forwardedTokens({ kv_transfer_params: params }: Fields): Uint32Array | null {
  return isFields(params) ? tokenIdsOf(params["prompt_token_ids"]) : null;
}

/** `messages`: in OpenAI's form; refused where one is not an object. */
export function chatOf(
  messages: unknown,
  rest: Omit<Chat, "messages" | "isTextOnly">,
): Result<Prompt, BodyRefusal> {
  if (!Array.isArray(messages) || messages.length === 0) {
    return refused("no-prompt", "field messages is not a list of messages");
  }
  if (!messages.every(isFields)) return refused("no-prompt", "a message is not an object");
  const isTextOnly = messages.every(({ content }) =>
    (listOrNull(content) ?? []).every((part) => textOfPart(part) !== null),
  );
  return ok({ kind: "chat", chat: { ...rest, messages, isTextOnly } });
}

/** What a request gives to the template by name. */
export function templateArgsOf({ chat_template_kwargs: args }: Fields): Fields {
  return isFields(args) ? args : {};
}

/** Kinds of content parts that hold text, each in the field named. */
const TEXT_PARTS: Readonly<Record<string, string>> = {
  text: "text",
  input_text: "text",
  output_text: "text",
  refusal: "refusal",
  thinking: "thinking",
};

/** Text of a part of a message's content; null: it is not text. */
export function textOfPart(part: unknown): string | null {
  if (typeof part === "string") return part;
  if (!isFields(part) || typeof part["type"] !== "string") return null;
  const field = Object.hasOwn(TEXT_PARTS, part["type"]) ? TEXT_PARTS[part["type"]] : undefined;
  const text = field === undefined ? undefined : part[field];
  return typeof text === "string" ? text : null;
}
