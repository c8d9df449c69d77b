/** `/v1/completions` and `/v1/embeddings`: text, token ids, or a list of either. */
import { type Result, refused } from "../core/result.ts";
import { readChatBody } from "./chat-body.ts";
import { type BodyRefusal, type Fields, type Prompt, readTextOrTokens } from "./prompt-fields.ts";

export function readCompletionsBody(fields: Fields): Result<Prompt, BodyRefusal> {
  return readPlain(fields, "prompt");
}

export function readEmbeddingsBody(fields: Fields): Result<Prompt, BodyRefusal> {
  return fields["input"] === undefined && fields["messages"] !== undefined
    ? readChatBody(fields, { isGenerating: false })
    : readPlain(fields, "input");
}

function readPlain(fields: Fields, name: string): Result<Prompt, BodyRefusal> {
  if (typeof fields["truncate_prompt_tokens"] === "number") {
    return refused("truncated", "truncate_prompt_tokens cuts the prompt in the engine");
  }
  return readTextOrTokens(fields[name], { name, isSpecialAdded: fields["add_special_tokens"] });
}
