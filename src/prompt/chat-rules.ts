/**
 * A chat as the engine takes it from the body of its API: arguments of the template, special tokens and
 * places of system messages, by the rules of the engine's version. Pure.
 */
import type { EngineRules } from "./engine-rules.ts";
import type { Chat, Fields } from "./prompt-fields.ts";

/** `isSystemMerged`: whether the template takes system messages only at the beginning. */
export function chatByRules(
  chat: Chat,
  { rules, isSystemMerged }: { readonly rules: EngineRules; readonly isSystemMerged: boolean },
): Chat {
  const isMerged = isSystemMerged || !rules.has("system-in-place");
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
