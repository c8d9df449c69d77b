/** The way from text to token ids that the configuration asks for. */
import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { PromptConfig } from "./config.ts";
import { engineRules } from "./engine-rules.ts";
import { EngineTokenizer } from "./engine-tokenizer.ts";
import { LocalTokenizer } from "./local-tokenizer.ts";
import type { PromptTokenizer } from "./prompt-tokenizer.ts";
import { TokenMemo } from "./token-memo.ts";

export interface TokenizerDeps {
  /** Ready engines to ask, the preferred first. */
  readonly engines: () => readonly EndpointId[];
  readonly clock: Clock;
  readonly log: Log;
}

export interface ChosenTokenizer {
  /** Null: text is routed by load. */
  readonly tokenizer: PromptTokenizer | null;
  /** Which it is, for people. */
  readonly detail: string;
  readonly stop: () => Promise<void>;
}

/** Rejects with KvError where tokenizer files are missing or not understood. */
export async function startTokenizer(
  { tokenize, tokenizerPath, memoBytesMax, ...engineNamed }: PromptConfig,
  deps: TokenizerDeps,
): Promise<ChosenTokenizer> {
  const stop = (): Promise<void> => Promise.resolve();
  if (tokenize === "off") return { tokenizer: null, detail: "text is routed by load", stop };
  const memo = new TokenMemo(memoBytesMax);
  const rules = engineRules(engineNamed);
  // SGLang has no path that renders.
  const isRendered = tokenize === "render" && !rules.has("sglang");
  const engine = new EngineTokenizer({ ...deps, memo, rules, isRendered });
  if (tokenize !== "local") {
    const path = isRendered ? "/v1/.../render" : "/tokenize";
    return { tokenizer: engine, detail: `text is tokenised by the engines' ${path}`, stop };
  }
  assert(tokenizerPath !== null, "tokenize local has a tokenizerPath");
  const local = await LocalTokenizer.start(tokenizerPath, {
    ...{ ...deps, memo, rules, textBytesMax: memoBytesMax, otherwise: engine },
  });
  return { tokenizer: local, detail: local.detail, stop: () => local.stop() };
}
