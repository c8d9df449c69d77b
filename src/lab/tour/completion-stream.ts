/** Reads a streamed completion: when its first token came, and its usage at the end. */
import { isObject } from "../engine/json-object.ts";

/** Bytes of one line; a longer one is not of a completion stream. */
const LINE_CHARS_MAX = 65_536;
const DATA = "data: ";

export interface StreamUsage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

export class CompletionStream {
  /** Null until the stream said it. */
  usage: StreamUsage | null = null;
  hasToken = false;
  /** The stream came to its own end. */
  isDone = false;
  #rest = "";

  push(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = (lines.pop() ?? "").slice(0, LINE_CHARS_MAX);
    for (const line of lines) if (line.startsWith(DATA)) this.#event(line.slice(DATA.length));
  }

  #event(data: string): void {
    if (data.trim() === "[DONE]") {
      this.isDone = true;
      return;
    }
    this.hasToken = true;
    // Only the last event has numbers there: the others need not be parsed.
    if (data.includes('"usage":{')) this.usage = usageOf(data);
  }
}

function usageOf(data: string): StreamUsage | null {
  try {
    const json: unknown = JSON.parse(data);
    const usage = isObject(json) ? json["usage"] : null;
    if (!isObject(usage) || typeof usage["prompt_tokens"] !== "number") return null;
    const details = usage["prompt_tokens_details"];
    const cached = isObject(details) ? details["cached_tokens"] : 0;
    return {
      promptTokens: usage["prompt_tokens"],
      cachedTokens: typeof cached === "number" ? cached : 0,
    };
  } catch {
    return null;
  }
}
