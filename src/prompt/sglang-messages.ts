/** `/v1/messages` in the form of chat completions, as SGLang does it. Throws TemplateGap. */
import type { RulesOfTemplate } from "./engine-rules.ts";
import { type Fields, isFields, isGiven, listOrNull } from "./prompt-fields.ts";
import { strip } from "./python-text.ts";
import { TemplateGap } from "./python-values.ts";

/** Types of tools that are the API's own: they are not shown to the template. */
const OWN_TOOLS = ["web_search_", "computer_", "bash_", "text_editor_"];

export function sglangMessages(body: Fields, { rules, isSystemMerged }: RulesOfTemplate): Fields {
  // It turns thinking on or off by what the server's parser of reasoning says.
  if (isGiven(body["thinking"])) throw new TemplateGap("thinking, in SGLang's /v1/messages");
  const given = (listOrNull(body["messages"]) ?? []).filter(isFields);
  const isInline = given.some(({ role }) => role === "system");
  if (isInline && isSystemMerged === null) throw new TemplateGap("system messages within a chat");
  const isMerged = isSystemMerged === true;
  const inline = isMerged ? given.filter(({ role }) => role === "system").map(systemText) : [];
  const system = [...systemTexts(body["system"]), ...inline].filter((text) => text !== "");
  const messages = given
    .filter(({ role }) => role !== "system" || !isMerged)
    .flatMap((message) => messagesOf(message));
  const tools = (listOrNull(body["tools"]) ?? [])
    .filter(isFields)
    .filter(isOwnTool)
    .map((tool) => toolOf(tool, { isStrictRead: rules.has("given-tool-fields") }));
  const { output_config: output } = body;
  const effort = isFields(output) ? (output["effort"] ?? null) : null;
  return {
    messages:
      system.length === 0
        ? messages
        : [{ role: "system", content: system.join("\n") }, ...messages],
    ...(tools.length === 0 ? {} : { tools, tool_choice: choiceOf(body["tool_choice"]) }),
    // As an argument: there it does not turn thinking on.
    ...(effort === null
      ? {}
      : { chat_template_kwargs: { reasoning_effort: effort === "xhigh" ? "max" : effort } }),
  };
}

function systemTexts(system: unknown): string[] {
  if (typeof system === "string") return strip(system, null) === "" ? [] : [system];
  return textsOf(system);
}

function systemText({ content }: Fields): string {
  const texts = typeof content === "string" ? [content] : textsOf(content);
  return texts
    .map((text) => strip(text, null))
    .filter((text) => text !== "")
    .join("\n");
}

function textsOf(blocks: unknown): string[] {
  return (listOrNull(blocks) ?? [])
    .filter(isFields)
    .flatMap(({ type, text }) => (type === "text" && typeof text === "string" ? [text] : []))
    .filter((text) => text !== "");
}

function messagesOf({ role, content }: Fields): Fields[] {
  const blocks = listOrNull(content);
  if (blocks === null) return [{ role, content }];
  const made: Fields[] = [];
  let parts: Fields[] = [];
  const calls: Fields[] = [];
  for (const block of blocks.filter(isFields)) {
    if (block["type"] === "text") parts.push({ type: "text", text: block["text"] });
    else if (block["type"] === "tool_use") calls.push(callOf(block));
    else if (block["type"] === "tool_result" && role === "user") {
      made.push(...(parts.length === 0 ? [] : [{ role, content: contentOf(parts) }]));
      parts = [];
      made.push(resultOf(block));
    } else if (block["type"] === "tool_result") {
      parts.push({ type: "text", text: `Tool result: ${resultTexts(block).join("\n")}` });
    } else if (block["type"] !== "tool_reference") {
      throw new TemplateGap(`a block of type ${String(block["type"])}`);
    }
  }
  const said = calls.length === 0 ? { role } : { role, tool_calls: calls };
  if (parts.length > 0) made.push({ ...said, content: contentOf(parts) });
  else if (calls.length > 0) made.push(said);
  else if (role !== "user") made.push({ ...said, content: "" });
  return made;
}

function contentOf(parts: readonly Fields[]): unknown {
  return parts.length === 1 ? parts[0]?.["text"] : parts;
}

function callOf({ id, name, input }: Fields): Fields {
  return { id, type: "function", function: { name, arguments: isFields(input) ? input : {} } };
}

function resultOf(block: Fields): Fields {
  const texts = resultTexts(block).map((text) => ({ type: "text", text }));
  const content = texts.length === 0 ? "" : contentOf(texts);
  return { role: "tool", tool_call_id: block["tool_use_id"] ?? block["id"] ?? "", content };
}

function resultTexts({ content }: Fields): string[] {
  const isText = (block: unknown): boolean => isFields(block) && block["type"] === "text";
  if (!(listOrNull(content) ?? []).every(isText)) throw new TemplateGap("a result that is no text");
  return typeof content === "string" ? [content].filter((text) => text !== "") : textsOf(content);
}

function isOwnTool({ type }: Fields): boolean {
  return !OWN_TOOLS.some((prefix) => String(type ?? "").startsWith(prefix));
}

function toolOf(
  { name, description, input_schema: schema, strict: asked, defer_loading: defer }: Fields,
  { isStrictRead }: { readonly isStrictRead: boolean },
): Fields {
  const strict = isStrictRead ? (asked ?? false) : false;
  const parameters = isFields(schema) && !Object.hasOwn(schema, "type") ? typed(schema) : schema;
  return {
    type: "function",
    function: { name, description: description ?? "", parameters, strict },
    ...(isGiven(defer) ? { defer_loading: defer } : {}),
  };
}

function typed(schema: Fields): Fields {
  return { ...schema, type: "object" };
}

function choiceOf(choice: unknown): unknown {
  const { type = "auto", name = null } = isFields(choice) ? choice : {};
  if (type === "tool") return { type: "function", function: { name } };
  return type === "any" ? "required" : type;
}
