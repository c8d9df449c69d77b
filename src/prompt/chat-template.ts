/**
 * A chat becomes the text that the engine's template makes of it: messages in the form that the engine
 * hands to the template, and the template through @huggingface/jinja. Pure, but for templates that ask
 * for the date.
 */
import { Environment, Interpreter } from "@huggingface/jinja";
import type { Clock } from "../core/clock.ts";
import { ok, type Result, refused } from "../core/result.ts";
import type { EngineRules } from "./engine-rules.ts";
import type { ChatTemplates } from "./file-tokenizer.ts";
import type { Chat, Fields } from "./prompt-fields.ts";
import { callable, TemplateGap, written } from "./python-values.ts";
import { sglangInput } from "./sglang-chat.ts";
import { TemplateRaised, templateGlobals } from "./template-globals.ts";
import type { TemplateInput } from "./template-input.ts";
import { parsedTemplate } from "./template-parse.ts";
import { rewriteTemplate } from "./template-rewrite.ts";
import { type TemplateTraits, templateTraits } from "./template-traits.ts";
import { vllmInput } from "./vllm-chat.ts";

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

export class ChatTemplate {
  readonly #plain: Compiled | null;
  readonly #withTools: Compiled | null;
  readonly #deps: ChatTemplateDeps;
  readonly #isSystemMerged: boolean | null;

  /** Throws where a template is no Jinja that is understood. */
  constructor({ plain, withTools }: ChatTemplates, deps: ChatTemplateDeps) {
    const { rules } = deps;
    const globals = (): Environment => templateGlobals(() => deps.clock.wallMs());
    this.#plain = compiled(plain, globals(), rules);
    this.#withTools = withTools === plain ? this.#plain : compiled(withTools, globals(), rules);
    this.#deps = deps;
    const probes = [this.#plain, this.#withTools].map(isSystemMerged);
    this.#isSystemMerged = probes.includes(true) || (probes.includes(null) ? null : false);
  }

  render(asked: Chat): Result<RenderedChat, TemplateRefusal> {
    const { rules } = this.#deps;
    if (asked.messages.length > MESSAGES_MAX) {
      const detail = `${asked.messages.length} messages, limit ${MESSAGES_MAX}`;
      return refused("template-unsupported", detail);
    }
    try {
      const of = { rules, isSystemMerged: this.#isSystemMerged };
      const input = rules.has("sglang") ? sglangInput(asked, of) : vllmInput(asked, of);
      const used = input.tools === null ? this.#plain : this.#withTools;
      if (used === null) return refused("template-unsupported", "the model has no chat template");
      return ok({ text: this.#write(used, input), isSpecialAdded: input.isSpecialAdded });
    } catch (error) {
      return refused(...reasonOf(error));
    }
  }

  #write(used: Compiled, input: TemplateInput): string {
    const { tools, toolsOtherwise, documents, args, isGenerationPromptAdded } = input;
    const variables = {
      ...this.#deps.special,
      ...args,
      messages: input.messagesFor(used),
      documents,
      add_generation_prompt: isGenerationPromptAdded,
    };
    try {
      return used.write({ ...variables, tools });
    } catch (error) {
      if (!(error instanceof TemplateRaised) || toolsOtherwise === null) throw error;
      return used.write({ ...variables, tools: toolsOtherwise });
    }
  }
}

/** Text of a system message that a template has to write where it stands. */
const PROBE = "a system's text within";

/**
 * Whether the engine puts system messages that stand within a chat at its beginning, as it finds it out with
 * nothing but messages; null: what the template does cannot be told here.
 */
function isSystemMerged(template: Compiled | null): boolean | null {
  if (template === null) return true;
  const texts = ["t", "t", PROBE, "t"];
  const messages = texts.map((content, at) => ({
    role: at % 2 === 0 ? "system" : "user",
    content,
  }));
  try {
    const text = template.write({
      messages,
      add_generation_prompt: false,
      strftime_now: undefined,
    });
    return template.isSystemProbed && !text.includes(PROBE);
  } catch (error) {
    return error instanceof TemplateGap ? null : true;
  }
}

function compiled(text: string | null, globals: Environment, rules: EngineRules): Compiled | null {
  if (text === null) return null;
  const parsed = parsedTemplate(text);
  const traits = templateTraits(text, parsed, rules);
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
  return { write, ...traits };
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
