/** A model's chat template from its files, and a chat's text by it. */
import type { Clock } from "../core/clock.ts";
import { KvError, messageOf } from "../core/errors.ts";
import { type Result, refused } from "../core/result.ts";
import { ChatTemplate, type RenderedChat, type TemplateRefusal } from "./chat-template.ts";
import type { EngineRules } from "./engine-rules.ts";
import { chatTemplatesOf, specialTokensOf } from "./file-tokenizer.ts";
import { isWrittenAlike } from "./json-forms.ts";
import type { Chat, Fields } from "./prompt-fields.ts";

/** `config`: of the folder. Throws KvError ERR_TOKENIZER_UNREADABLE. */
export function templateOf(
  { folder, config }: { readonly folder: string; readonly config: Fields },
  { rules, clock }: { readonly rules: EngineRules; readonly clock: Pick<Clock, "wallMs"> },
): ChatTemplate {
  try {
    const special = specialTokensOf(config);
    return new ChatTemplate(chatTemplatesOf(config, rules), { special, rules, clock });
  } catch (cause) {
    const message = `${folder}: the chat template is not understood: ${messageOf(cause)}`;
    throw new KvError("ERR_TOKENIZER_UNREADABLE", message, { cause });
  }
}

/** `body`: bytes that the chat was read from. */
export function rendered(
  template: ChatTemplate,
  chat: Chat,
  body: Uint8Array,
): Result<RenderedChat, TemplateRefusal> {
  return isWrittenAlike(chat, body)
    ? template.render(chat)
    : refused("template-unsupported", "data that the engine writes in another form");
}
