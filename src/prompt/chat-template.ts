/**
 * A chat becomes the text that the engine's template makes of it: messages in the form that vLLM
 * hands to the template, and the template through @huggingface/jinja. Pure, but for templates that ask
 * for the date.
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import type { Clock } from "../core/clock.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { textOfPart } from "./chat-body.ts";
import type { ChatTemplates } from "./file-tokenizer.ts";
import { type Chat, type Fields, isFields, listOrNull } from "./prompt-fields.ts";
import { callable, TemplateGap, written } from "./python-values.ts";
import { TemplateRaised, templateGlobals } from "./template-globals.ts";
import { rewriteTemplate } from "./template-rewrite.ts";

/** Messages of a chat that is rendered here; rendering is on the thread that decides. */
const MESSAGES_MAX = 16_384;

/**
 * - template-failed: the template refuses the chat, as the engine's will
 * - template-unsupported: what is asked for cannot be rendered here as the engine does it
 */
export type TemplateRefusal = "template-failed" | "template-unsupported";

interface Compiled {
  readonly write: (variables: Fields) => string;
  /** Whether the template goes through a message's content part by part, or takes it as text. */
  readonly isContentListed: boolean;
}

export class ChatTemplate {
  readonly #plain: Compiled | null;
  readonly #withTools: Compiled | null;
  readonly #special: Readonly<Record<string, string>>;

  /** Throws where a template is no Jinja that is understood. `special`: texts of special tokens. */
  constructor(
    templates: ChatTemplates,
    special: Readonly<Record<string, string>>,
    clock: Pick<Clock, "wallMs">,
  ) {
    const globals = (): Environment => templateGlobals(() => clock.wallMs());
    const { plain, withTools } = templates;
    this.#plain = compiled(plain, globals());
    this.#withTools = withTools === plain ? this.#plain : compiled(withTools, globals());
    this.#special = special;
  }

  render(chat: Chat): Result<string, TemplateRefusal> {
    const { tools, documents, templateArgs } = chat;
    const used = tools === null ? this.#plain : this.#withTools;
    if (used === null) return refused("template-unsupported", "the model has no chat template");
    const own = ["template", "isFinalMessageContinued"] as const;
    const asked = own.find((name) => chat[name] !== null && chat[name] !== false);
    if (asked !== undefined) return refused("template-unsupported", `${asked} is asked for`);
    if (chat.messages.length > MESSAGES_MAX) {
      const detail = `${chat.messages.length} messages, limit ${MESSAGES_MAX}`;
      return refused("template-unsupported", detail);
    }
    try {
      const text = used.write({
        ...this.#special,
        ...templateArgs,
        messages: chat.messages.map((message) => templateMessage(message, used)),
        tools: tools === null ? null : tools.map(templateTool),
        documents,
        add_generation_prompt: chat.isGenerationPromptAdded,
      });
      return ok(text);
    } catch (error) {
      return refused(...reasonOf(error));
    }
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
  return { write, isContentListed };
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

/** As vLLM gives it to the template: text joined by line ends or as parts, arguments as objects. */
function templateMessage(message: Fields, { isContentListed }: Compiled): Fields {
  const { role, content, reasoning, reasoning_content: reasoningContent } = message;
  const parts = (typeof content === "string" ? [content] : (listOrNull(content) ?? [])).map(
    (part) => textOfPart(part) ?? "",
  );
  const given: Record<string, unknown> = {
    role,
    content: isContentListed ? parts.map((text) => ({ type: "text", text })) : parts.join("\n"),
  };
  if (role === "assistant") {
    const calls = listOrNull(message["tool_calls"]);
    if (calls !== null && calls.length > 0) given["tool_calls"] = calls.map(templateCall);
    const thought = reasoning ?? reasoningContent;
    if (typeof thought === "string") {
      given["reasoning"] = thought;
      given["reasoning_content"] = thought;
    }
  }
  if (role === "tool" && message["tool_call_id"] !== undefined) {
    given["tool_call_id"] = message["tool_call_id"];
  }
  if (typeof message["name"] === "string") given["name"] = message["name"];
  return given;
}

function templateCall(call: unknown): unknown {
  if (!isFields(call) || !isFields(call["function"])) return call;
  const { arguments: args } = call["function"];
  const parsed: unknown = typeof args === "string" && args !== "" ? JSON.parse(args) : (args ?? {});
  return { ...call, function: { ...call["function"], arguments: parsed === "" ? {} : parsed } };
}

/** With the fields that vLLM fills in, in its order. */
function templateTool(tool: unknown): unknown {
  if (!isFields(tool) || !isFields(tool["function"])) return tool;
  const { type, function: given, ...rest } = tool;
  const { name, description = null, parameters = null, ...others } = given;
  return { type, function: { name, description, parameters, ...others }, ...rest };
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
