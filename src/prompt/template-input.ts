/** What a chat template is given of a request, whichever engine it is of. */
import type { Fields } from "./prompt-fields.ts";
import type { TemplateTraits } from "./template-traits.ts";

export interface TemplateInput {
  /** Throws TemplateGap where the engine's answer is not known. */
  readonly messagesFor: (traits: TemplateTraits) => readonly Fields[];
  readonly tools: readonly unknown[] | null;
  /** For a template that fails with `tools`: what the engine tries next; null: nothing. */
  readonly toolsOtherwise: readonly unknown[] | null;
  readonly documents: readonly unknown[] | null;
  /** Arguments of the template, by their names. */
  readonly args: Fields;
  readonly isGenerationPromptAdded: boolean;
  /** Whether the tokenizer is to add its special tokens. */
  readonly isSpecialAdded: boolean;
}

/** Names by which a request cannot give arguments: the engine fails, or they are no template's. */
export const RESERVED_ARGS = ["messages", "conversation", "chat_template", "tokenize"] as const;
