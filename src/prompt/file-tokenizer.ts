/** A model's tokenizer files from a local folder, as they are laid out on the Hugging Face Hub. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { KvError, messageOf } from "../core/errors.ts";
import type { EngineRules } from "./engine-rules.ts";
import { type Fields, isFields, listOrNull, textOrNull } from "./prompt-fields.ts";

/** Text of a chat template, or null where the model has none. */
export interface ChatTemplates {
  readonly plain: string | null;
  /** For requests with tools, where the model has two. */
  readonly withTools: string | null;
}

/** tokenizer.json. Throws KvError ERR_TOKENIZER_UNREADABLE. Cost: some 100 ms for 10 MB. */
export function readTokenizerJson(folder: string): Fields {
  return readJson(path.join(folder, "tokenizer.json"));
}

/** tokenizer_config.json, with the chat template of chat_template.jinja where there is one. */
export function readTokenizerConfig(folder: string): Fields {
  const config = readJson(path.join(folder, "tokenizer_config.json"));
  const file = path.join(folder, "chat_template.jinja");
  return existsSync(file) ? { ...config, chat_template: readText(file) } : config;
}

/**
 * One template, or several with names: vLLM takes "default" and "tool_use" for chats, SGLang the first.
 */
export function chatTemplatesOf(
  { chat_template: given }: Fields,
  rules: EngineRules,
): ChatTemplates {
  if (typeof given === "string") return { plain: given, withTools: given };
  if (rules.has("sglang")) {
    const first = listOrNull(given)?.[0];
    const text = isFields(first) ? textOrNull(first["template"]) : null;
    return { plain: text, withTools: text };
  }
  const named = (name: string): string | null => {
    const found = (listOrNull(given) ?? []).find((each) => isFields(each) && each["name"] === name);
    return isFields(found) && typeof found["template"] === "string" ? found["template"] : null;
  };
  const plain = named("default");
  return { plain, withTools: named("tool_use") ?? plain };
}

/** Texts of the special tokens that templates name, such as bos_token. */
export function specialTokensOf(config: Fields): Readonly<Record<string, string>> {
  const named = Object.entries(config).flatMap(([name, value]) => {
    const text = isFields(value) ? value["content"] : value;
    return name.endsWith("_token") && typeof text === "string" ? [[name, text]] : [];
  });
  return Object.fromEntries(named);
}

function readJson(file: string): Fields {
  const text = readText(file);
  try {
    const parsed: unknown = JSON.parse(text);
    if (isFields(parsed)) return parsed;
  } catch (cause) {
    throw new KvError("ERR_TOKENIZER_UNREADABLE", `${file}: ${messageOf(cause)}`, { cause });
  }
  throw new KvError("ERR_TOKENIZER_UNREADABLE", `${file}: not a JSON object`);
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new KvError("ERR_TOKENIZER_UNREADABLE", `${file}: ${messageOf(cause)}`, { cause });
  }
}
