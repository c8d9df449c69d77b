/**
 * A chat as vLLM takes it from the body of its API and hands it to the template: arguments, special tokens
 * and places of system messages, by the rules of the engine's version. Pure.
 */
import type { EngineRules, RulesOfTemplate } from "./engine-rules.ts";
import { type Chat, type Fields, listOrNull } from "./prompt-fields.ts";
import { TemplateGap } from "./python-values.ts";
import { RESERVED_ARGS, type TemplateInput } from "./template-input.ts";
import { templateMessages, templateTool } from "./vllm-messages.ts";

/** Throws TemplateGap where the engine's answer is not known. */
export function vllmInput(asked: Chat, { rules, isSystemMerged }: RulesOfTemplate): TemplateInput {
  if (isSystemMerged === null && isSystemWithin(asked) && rules.has("system-in-place")) {
    throw new TemplateGap("what hides where it takes system messages");
  }
  const chat = chatByRules(asked, { rules, isSystemMerged });
  const obstacle = obstacleOf(chat);
  if (obstacle !== null) throw new TemplateGap(obstacle);
  const { templateArgs: args } = chat;
  return {
    messagesFor: (traits) => templateMessages(chat, traits, rules),
    tools:
      listOrNull(args["tools"]) ?? chat.tools?.map((tool) => templateTool(tool, rules)) ?? null,
    toolsOtherwise: null,
    documents: chat.documents ?? listOrNull(args["documents"]),
    args,
    isGenerationPromptAdded: chat.isGenerationPromptAdded,
    isSpecialAdded: chat.isSpecialAdded,
  };
}

function isSystemWithin({ api, messages }: Chat): boolean {
  return api === "messages" && messages.findLastIndex(({ role }) => role === "system") > 0;
}

function obstacleOf({ template, isFinalMessageContinued, templateArgs }: Chat): string | null {
  if (template !== null) return "a template of the request's own";
  if (isFinalMessageContinued) return "an answer to go on with";
  const reserved = RESERVED_ARGS.find((name) => Object.hasOwn(templateArgs, name));
  return reserved === undefined ? null : `${reserved} as an argument`;
}

/** The chat as its API has it read, in the form of chat completions. */
export function chatByRules(chat: Chat, { rules, isSystemMerged }: RulesOfTemplate): Chat {
  const isMerged = isSystemMerged === true || !rules.has("system-in-place");
  return {
    ...chat,
    messages: chat.api === "messages" && isMerged ? systemFirst(chat.messages) : chat.messages,
    templateArgs: templateArgsOf(chat, rules),
    isSpecialAdded:
      chat.isSpecialAdded || (chat.api === "responses" && rules.has("responses-special-tokens")),
  };
}

function templateArgsOf(chat: Chat, rules: EngineRules): Fields {
  const { templateArgs: given, isThinkingOff } = chat;
  const effort = isThinkingOff && rules.has("thinking-disabled") ? "none" : chat.effort;
  const args: Record<string, unknown> = { ...given };
  if (effort !== null) {
    args["reasoning_effort"] = effort;
    if (rules.has("effort-sets-thinking") && !Object.hasOwn(given, "enable_thinking")) {
      args["enable_thinking"] = effort !== "none";
    }
  }
  if (!rules.has("unset-template-args")) return args;
  return Object.fromEntries(
    Object.entries(args).filter(([, value]) => value !== null && value !== "auto"),
  );
}

function systemFirst(messages: readonly Fields[]): readonly Fields[] {
  const system = messages.filter(({ role }) => role === "system").map(({ content }) => content);
  const rest = messages.filter(({ role }) => role !== "system");
  return system.length === 0 ? rest : [{ role: "system", content: system.join("") }, ...rest];
}
