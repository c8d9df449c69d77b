/** The way from text to token ids that the configuration asks for. */
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { PromptConfig } from "./config.ts";
import { EngineTokenizer } from "./engine-tokenizer.ts";
import type { PromptTokenizer } from "./prompt-tokenizer.ts";
import { TokenMemo } from "./token-memo.ts";

export interface TokenizerDeps {
  /** Ready engines to ask, the preferred first. */
  readonly engines: () => readonly EndpointId[];
  readonly clock: Clock;
}

/** Null: text is routed by load. */
export function createTokenizer(
  { tokenize, memoBytesMax }: PromptConfig,
  deps: TokenizerDeps,
): PromptTokenizer | null {
  if (tokenize === "off") return null;
  const memo = new TokenMemo(memoBytesMax);
  return new EngineTokenizer({ ...deps, memo, isRendered: tokenize === "render" });
}
