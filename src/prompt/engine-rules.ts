/**
 * Rules by which engines read the same prompt otherwise, and vLLM from one version to another. They were
 * read from vLLM's sources, and each was seen in what the versions 0.11.2, 0.18.1, 0.25.1, 0.29.0 and 0.33.0
 * make of one body: "since" is the first of these that has it. Those of SGLang are in sglang-chat.ts.
 */

export const ENGINES = ["vllm", "sglang"] as const;
export type Engine = (typeof ENGINES)[number];

/** The newest version of vLLM whose rules are known. */
export const ENGINE_VERSION_NEWEST = "0.33.0";

const SINCE = {
  /** `/v1/responses`: the tokenizer's special tokens are added to what the template has written. */
  "responses-special-tokens": "0.18.1",
  /** Arguments of the template that are null or "auto" are left out. */
  "unset-template-args": "0.18.1",
  /** Role developer is system where the template does not name it, and all system messages are one. */
  "developer-as-system": "0.25.1",
  /** A tool's fields strict and defer_loading are known, and left out where they are null. */
  "tool-flags": "0.25.1",
  /** A reasoning effort turns thinking on, and "none" turns it off. */
  "effort-sets-thinking": "0.25.1",
  /** Texts of a tool's result are one text. */
  "tool-result-text": "0.25.1",
  /** Token ids that the prefill stage forwards with a chat are the prompt, and nothing is rendered. */
  "forwarded-tokens": "0.29.0",
  /** Fields of a tool that are not known are left out. */
  "known-tool-fields": "0.29.0",
  /** Arguments of a call that are no JSON object are an empty one. */
  "call-arguments-object": "0.29.0",
  /** A system text that begins with one client's header loses that line. */
  "billing-header": "0.33.0",
  /** Templates find a message's reasoning under "thinking" as well: done by the transformers it comes with. */
  "reasoning-as-thinking": "0.33.0",
  /** `/v1/messages`: thinking that is disabled is a reasoning effort of "none". */
  "thinking-disabled": "0.33.0",
  /** `/v1/messages`: a system message stays where it stands, where the template takes it there. */
  "system-in-place": "0.33.0",
} as const;

/** sglang: SGLang's own, and no other. */
export type EngineRule = keyof typeof SINCE | "sglang";
export type EngineRules = ReadonlySet<EngineRule>;

export interface EngineNamed {
  readonly engine: Engine;
  readonly engineVersion: string;
}

export function isEngineVersion(text: string): boolean {
  return /^\d{1,4}(\.\d{1,4}){1,2}$/.test(text);
}

/** `engineVersion`: of vLLM, such as "0.25.1" or "0.25". */
export function engineRules({ engine, engineVersion }: EngineNamed): EngineRules {
  if (engine === "sglang") return new Set(["sglang"]);
  const asked = partsOf(engineVersion);
  const known = Object.entries(SINCE) as [keyof typeof SINCE, string][];
  return new Set(
    known.filter(([, since]) => isReached(asked, partsOf(since))).map(([rule]) => rule),
  );
}

function partsOf(version: string): number[] {
  return version.split(".").map(Number);
}

function isReached(asked: readonly number[], since: readonly number[]): boolean {
  for (const [place, part] of since.entries()) {
    const own = asked[place] ?? 0;
    if (own !== part) return own > part;
  }
  return true;
}
