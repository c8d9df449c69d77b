/**
 * Reads the engine's token counts out of a response body that passes by: `usage` of OpenAI's and
 * Anthropic's APIs, `meta_info` of SGLang's own.
 *
 * Only the end of the body is kept: the counts stand behind the text in a JSON answer, and in the last
 * events of a stream.
 */
import type { Usage } from "./picker.ts";

/** Bytes kept of the end of a response body. */
export const TAIL_BYTES_MAX = 16_384;

/** Closing braces tried as the end of a usage object; engines nest two or three objects in it. */
const USAGE_BRACES_MAX = 16;

export class UsageTail {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #isWhole = true;

  /** The chunk itself is not kept, so that its memory can go. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    const kept = Buffer.from(chunk.subarray(Math.max(0, chunk.length - TAIL_BYTES_MAX)));
    if (kept.length < chunk.length) this.#isWhole = false;
    this.#chunks.push(kept);
    this.#bytes += kept.length;
    while (this.#bytes > TAIL_BYTES_MAX) this.#trim(this.#bytes - TAIL_BYTES_MAX);
  }

  /** Null when the body ends without a readable `usage` object. */
  read(): Usage | null {
    if (this.#bytes === 0) return null;
    const text = Buffer.concat(this.#chunks, this.#bytes).toString("utf8");
    if (this.#isWhole) {
      const answer = parseJson(text);
      if (answer !== undefined) return usageIn(answer);
    }
    return readEvents(text) ?? readCutAnswer(text);
  }

  #trim(surplusBytes: number): void {
    this.#isWhole = false;
    const first = this.#chunks.shift();
    if (first === undefined) return;
    const cut = Math.min(first.length, surplusBytes);
    this.#bytes -= cut;
    if (cut < first.length) this.#chunks.unshift(first.subarray(cut));
  }
}

/** Server-sent events, newest first: the last one with a usage object counts. */
function readEvents(text: string): Usage | null {
  const lines = text.split(/\r?\n/);
  for (const line of lines.reverse()) {
    if (!line.startsWith("data:")) continue;
    const usage = usageIn(parseJson(line.slice("data:".length)));
    if (usage !== null) return usage;
  }
  return null;
}

/**
 * A JSON answer or event whose beginning is not kept: the last such key followed by a whole object.
 * Generated text cannot be mistaken for it, as quotes are escaped inside a JSON string.
 */
function readCutAnswer(text: string): Usage | null {
  const match = [...text.matchAll(/(?<!\\)"(?:usage|meta_info)"\s*:\s*(?=\{)/g)].at(-1);
  if (match === undefined) return null;
  const start = match.index + match[0].length;
  let end = start;
  for (let braces = 0; braces < USAGE_BRACES_MAX; braces += 1) {
    end = text.indexOf("}", end) + 1;
    if (end === 0) return null;
    const parsed = parseJson(text.slice(start, end));
    if (parsed !== undefined) return usageOf(parsed);
  }
  return null;
}

/** Of a whole answer or event; that of /v1/responses which tells of its end has the answer in it. */
function usageIn(answer: unknown): Usage | null {
  const whole = member(answer, "response") ?? answer;
  return usageOf(member(whole, "usage")) ?? usageOf(member(whole, "meta_info"));
}

/**
 * Null where no prompt is counted, as versions of /v1/responses give zeros for what they do not know, and
 * where more of it is cached than there is.
 */
function usageOf(value: unknown): Usage | null {
  const count = (name: string): number | null => tokenCount(member(value, name));
  const cachedIn = (name: string): number | null =>
    tokenCount(member(member(value, name), "cached_tokens"));
  const readTokens = count("cache_read_input_tokens");
  // In Anthropic's API what was cached is no part of the input, but stands beside it.
  const besideTokens = (readTokens ?? 0) + (count("cache_creation_input_tokens") ?? 0);
  const inputTokens = count("prompt_tokens") ?? count("input_tokens");
  const promptTokens = (inputTokens ?? 0) + besideTokens;
  if (inputTokens === null || promptTokens === 0) return null;
  const cachedInPrompt = cachedIn("prompt_tokens_details") ?? cachedIn("input_tokens_details");
  const cachedTokens = cachedInPrompt ?? readTokens ?? count("cached_tokens");
  if (cachedTokens !== null && cachedTokens > promptTokens) return null;
  return {
    promptTokens,
    cachedTokens,
    completionTokens: count("completion_tokens") ?? count("output_tokens"),
  };
}

function tokenCount(value: unknown): number | null {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : null;
}

function member(value: unknown, key: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
  return (value as Record<string, unknown>)[key];
}

/**
 * Undefined when the text is no JSON object, nor a list of them. What cannot be one is not tried, as the
 * `[DONE]` of a stream: an error that is thrown costs more than a small answer.
 */
function parseJson(text: string): unknown {
  if (!/^\s*(?:\[\s*)?\{/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
