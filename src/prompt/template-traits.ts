/** What an engine finds out about a chat template before it hands it anything. Pure. */
import type { EngineRules } from "./engine-rules.ts";
import { isFields } from "./prompt-fields.ts";

/** What the template makes of messages depends on it. */
export interface TemplateTraits {
  /** Whether it goes through a message's content part by part, or takes it as text. */
  readonly isContentListed: boolean;
  /** Whether it names the role developer. */
  readonly isDeveloperKnown: boolean;
  /** Whether low reasoning effort has an argument of its own; asked for by SGLang alone. */
  readonly hasLowEffort: boolean;
  /** Whether a system message within a chat has to be written by it, or only not refused. */
  readonly isSystemProbed: boolean;
}

/** Names by which SGLang knows a loop's message. */
const MESSAGE_NAMES = ["message", "msg", "m"];

/** `parsed`: the template's tree, as it was written. */
export function templateTraits(text: string, parsed: object, rules: EngineRules): TemplateTraits {
  const has = (word: string): boolean => text.includes(word);
  return {
    isContentListed: rules.has("sglang")
      ? ["image", "audio", "video", "vision"].some(has) || hasNamedLoop(parsed)
      : hasContentLoop(parsed, new Set()),
    isDeveloperKnown: has('"developer"') || has("'developer'"),
    hasLowEffort: has("low_effort") && has("truncate_history_thinking"),
    isSystemProbed: rules.has("sglang"),
  };
}

/**
 * Whether a template loops over the content of a message: vLLM then hands it over as parts.
 * `names`: variables that hold a content, added to on the way.
 */
function hasContentLoop(node: unknown, names: Set<string>): boolean {
  if (Array.isArray(node)) return node.some((each) => hasContentLoop(each, names));
  if (!isFields(node)) return false;
  const { type, assignee, value, iterable } = node;
  if (type === "Set" && isContent(value, names) && isFields(assignee)) {
    names.add(String(assignee["value"]));
  }
  if (type === "For" && isContent(iterable, names)) return true;
  return Object.values(node).some((each) => hasContentLoop(each, names));
}

/** `message.content`, `message["content"]`, or a variable that was set to it. */
function isContent(node: unknown, names: ReadonlySet<string>): boolean {
  if (!isFields(node)) return false;
  if (node["type"] === "Identifier") return names.has(String(node["value"]));
  return isContentOf(node);
}

function isContentOf({ type, property }: Readonly<Record<string, unknown>>): boolean {
  return type === "MemberExpression" && isFields(property) && property["value"] === "content";
}

/** As SGLang looks for it: of a message by one of its names, also through filters and slices. */
function hasNamedLoop(node: unknown): boolean {
  if (Array.isArray(node)) return node.some(hasNamedLoop);
  if (!isFields(node)) return false;
  if (node["type"] === "For" && isNamedContent(node["iterable"])) return true;
  return Object.values(node).some(hasNamedLoop);
}

function isNamedContent(node: unknown): boolean {
  if (!isFields(node)) return false;
  const { type, object, property, operand, lhs } = node;
  if (type === "SelectExpression") return isNamedContent(lhs);
  if (type === "FilterExpression") return isNamedContent(operand);
  if (type !== "MemberExpression") return false;
  if (isFields(property) && property["type"] === "SliceExpression") return isNamedContent(object);
  const name = isFields(object) && object["type"] === "Identifier" ? object["value"] : null;
  // A variable in brackets has a name as well.
  const isVariable =
    node["computed"] === true && isFields(property) && property["type"] === "Identifier";
  return MESSAGE_NAMES.includes(String(name)) && isContentOf(node) && !isVariable;
}
