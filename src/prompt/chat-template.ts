/**
 * A chat becomes the text that the engine's template makes of it: messages in the form that vLLM
 * hands to the template, and the template through @huggingface/jinja. Pure, but for templates that ask
 * for the date.
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import type { Clock } from "../core/clock.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { chatByRules } from "./chat-rules.ts";
import type { EngineRules } from "./engine-rules.ts";
import type { ChatTemplates } from "./file-tokenizer.ts";
import { type Chat, type Fields, isFields, listOrNull } from "./prompt-fields.ts";
import { callable, TemplateGap, written } from "./python-values.ts";
import { TemplateRaised, templateGlobals } from "./template-globals.ts";
import { type TemplateTraits, templateMessages, templateTool } from "./template-messages.ts";
import { rewriteTemplate } from "./template-rewrite.ts";

/** Messages of a chat that is rendered here; rendering is on the thread that decides. */
const MESSAGES_MAX = 16_384;

/**
 * - template-failed: the template refuses the chat, as the engine's will
 * - template-unsupported: what is asked for cannot be rendered here as the engine does it
 */
export type TemplateRefusal = "template-failed" | "template-unsupported";

export interface ChatTemplateDeps {
  /** Texts of special tokens, by the names that templates use. */
  readonly special: Readonly<Record<string, string>>;
  readonly rules: EngineRules;
  readonly clock: Pick<Clock, "wallMs">;
}

export interface RenderedChat {
  readonly text: string;
  /** Whether the tokenizer is to add its special tokens. */
  readonly isSpecialAdded: boolean;
}

interface Compiled extends TemplateTraits {
  readonly write: (variables: Fields) => string;
}

/** Arguments that a request cannot give: with them the engine fails. */
const RESERVED_ARGS = ["messages", "conversation", "chat_template", "tokenize"];

export class ChatTemplate {
  readonly #plain: Compiled | null;
  readonly #withTools: Compiled | null;
  readonly #deps: ChatTemplateDeps;
  readonly #isSystemMerged: boolean;

  /** Throws where a template is no Jinja that is understood. */
  constructor({ plain, withTools }: ChatTemplates, deps: ChatTemplateDeps) {
    const globals = (): Environment => templateGlobals(() => deps.clock.wallMs());
    this.#plain = compiled(plain, globals());
    this.#withTools = withTools === plain ? this.#plain : compiled(withTools, globals());
    this.#deps = deps;
    this.#isSystemMerged = [this.#plain, this.#withTools].some(isSystemFirst);
  }

  render(asked: Chat): Result<RenderedChat, TemplateRefusal> {
    const { rules, special } = this.#deps;
    const chat = chatByRules(asked, { rules, isSystemMerged: this.#isSystemMerged });
    const { templateArgs: args, isSpecialAdded } = chat;
    const tools =
      listOrNull(args["tools"]) ?? chat.tools?.map((tool) => templateTool(tool, rules)) ?? null;
    const used = tools === null ? this.#plain : this.#withTools;
    if (used === null) return refused("template-unsupported", "the model has no chat template");
    const obstacle = obstacleOf(chat);
    if (obstacle !== null) return refused("template-unsupported", obstacle);
    try {
      const text = used.write({
        ...special,
        ...args,
        messages: templateMessages(chat, used, rules),
        tools,
        documents: chat.documents ?? listOrNull(args["documents"]),
        add_generation_prompt: chat.isGenerationPromptAdded,
      });
      return ok({ text, isSpecialAdded });
    } catch (error) {
      return refused(...reasonOf(error));
    }
  }
}

function obstacleOf({ messages, templateArgs, ...chat }: Chat): string | null {
  const own = ["template", "isFinalMessageContinued"] as const;
  const asked = own.find((name) => chat[name] !== null && chat[name] !== false);
  if (asked !== undefined) return `${asked} is asked for`;
  const reserved = RESERVED_ARGS.find((name) => Object.hasOwn(templateArgs, name));
  if (reserved !== undefined) return `${reserved} is an argument of the template`;
  return messages.length > MESSAGES_MAX
    ? `${messages.length} messages, limit ${MESSAGES_MAX}`
    : null;
}

/** As vLLM finds it out, with nothing but messages: whatever fails counts. */
function isSystemFirst(template: Compiled | null): boolean {
  if (template === null) return true;
  const messages = ["system", "user", "system", "user"].map((role) => ({ role, content: "t" }));
  try {
    template.write({ messages, add_generation_prompt: false, strftime_now: undefined });
    return false;
  } catch {
    return true;
  }
}

function compiled(text: string | null, globals: Environment): Compiled | null {
  if (text === null) return null;
  const { parsed } = new Template(text);
  const isContentListed = hasContentLoop(parsed, new Set());
  const interpreter = new Interpreter(globals);
  for (const [name, block] of rewriteTemplate(parsed)) {
    const inScope = callable((_, scope) => interpreter.evaluate(block, new Environment(scope)));
    globals.setVariable(name, inScope);
  }
  const write = (variables: Fields): string => {
    const environment = new Environment(globals);
    for (const [name, value] of Object.entries(variables)) {
      environment.variables.delete(name);
      environment.set(name, value);
    }
    return written(interpreter.evaluate(parsed, environment));
  };
  const isDeveloperKnown = text.includes('"developer"') || text.includes("'developer'");
  return { write, isContentListed, isDeveloperKnown };
}

/** What a template raises, and what the library says, may quote messages. */
function reasonOf(error: unknown): [TemplateRefusal, string] {
  if (error instanceof TemplateRaised) {
    const detail = `the template refuses the chat, in ${error.message.length} characters`;
    return ["template-failed", detail];
  }
  const what = error instanceof TemplateGap ? error.message : "what the library has not";
  return ["template-unsupported", `the template uses ${what}`];
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
  const property = node["type"] === "MemberExpression" ? node["property"] : null;
  return isFields(property) && property["value"] === "content";
}
