/**
 * The lab model's tokenizer and chat template. Both are made up, deterministic and stated here, so
 * that any test can say beforehand what a text becomes.
 *
 * Text is cut into pieces by PIECE and each piece is hashed to an id below 128,000 (pieceToken).
 * Special tokens, ids as in Llama 3, come from the template only: their names inside a text are
 * ordinary text. Plain prompts begin with beginOfText. The template, with every text tokenized by
 * itself:
 *
 *   beginOfText
 *   [startHeader "tools" endHeader "\n\n" JSON(tools) endOfTurn]          when tools are given
 *   startHeader ROLE endHeader "\n\n" CONTENT [JSON(tool_calls)] endOfTurn   for each message
 *   startHeader "assistant" endHeader "\n\n"                              the generation prompt
 */
import { pieceToken } from "./piece-token.ts";
import { TokenBuffer } from "./token-buffer.ts";

/** A word, digits or signs with the space before, or white space; at most 10, 4 or 8 characters. */
const PIECE = / ?[\p{L}\p{N}_]{1,10}| ?[^\s\p{L}\p{N}_]{1,4}|\s{1,8}/gu;

export const SPECIAL_TOKENS = {
  beginOfText: 128_000,
  startHeader: 128_006,
  endHeader: 128_007,
  endOfTurn: 128_009,
} as const;

/** Ids at and above this do not exist. */
export const VOCABULARY_TOKENS = 128_256;

/** A message as the template wants it: content parts are joined before. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  /** Rendered as JSON behind the content. */
  readonly toolCalls: unknown;
}

export interface ChatPrompt {
  readonly messages: readonly ChatMessage[];
  readonly tools: unknown;
  readonly isGenerationPromptAdded: boolean;
}

/** Token ids of a plain text. */
export function tokenizeText(
  text: string,
  options: { readonly isBeginAdded: boolean },
): Uint32Array {
  const tokens = new TokenBuffer();
  if (options.isBeginAdded) tokens.push(SPECIAL_TOKENS.beginOfText);
  appendText(tokens, text);
  return tokens.toArray();
}

/** Token ids of a conversation through the chat template. */
export function tokenizeChat(prompt: ChatPrompt): Uint32Array {
  const tokens = new TokenBuffer();
  tokens.push(SPECIAL_TOKENS.beginOfText);
  if (prompt.tools !== undefined && prompt.tools !== null) {
    appendHeader(tokens, "tools");
    appendText(tokens, JSON.stringify(prompt.tools));
    tokens.push(SPECIAL_TOKENS.endOfTurn);
  }
  for (const message of prompt.messages) {
    appendHeader(tokens, message.role);
    appendText(tokens, message.content);
    if (message.toolCalls !== undefined && message.toolCalls !== null) {
      appendText(tokens, JSON.stringify(message.toolCalls));
    }
    tokens.push(SPECIAL_TOKENS.endOfTurn);
  }
  if (prompt.isGenerationPromptAdded) appendHeader(tokens, "assistant");
  return tokens.toArray();
}

function appendHeader(tokens: TokenBuffer, role: string): void {
  tokens.push(SPECIAL_TOKENS.startHeader);
  appendText(tokens, role);
  tokens.push(SPECIAL_TOKENS.endHeader);
  appendText(tokens, "\n\n");
}

function appendText(tokens: TokenBuffer, text: string): void {
  // A regex of our own per call: lastIndex is state. `test` moves it without making a match.
  const piece = new RegExp(PIECE);
  for (let start = 0; piece.test(text); start = piece.lastIndex) {
    tokens.push(pieceToken(text, start, piece.lastIndex));
  }
}
