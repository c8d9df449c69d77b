/**
 * Rules by which engines read the same prompt otherwise, from one version to another. They were read from
 * the engines' sources, and each was seen in what versions of them make of one body: "since" is the first
 * that has it, of vLLM's 0.11.2, 0.18.1, 0.25.1, 0.29.0 and 0.33.0, and of SGLang's 0.5.20 to 0.5.23.
 * What all of SGLang's have in common is in sglang-chat.ts.
 */

export const ENGINES = ["vllm", "sglang"] as const;
export type Engine = (typeof ENGINES)[number];

/** The newest versions whose rules are known. */
export const ENGINE_VERSIONS_NEWEST = { vllm: "0.33.0", sglang: "0.5.23" } as const;

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

const SGLANG_SINCE = {
  /** `/v1/responses`: system messages stay where they stand, where the template takes them there. */
  "responses-system-in-place": "0.5.22",
  /** A tool's fields have the order of the request, and `strict` is left out where it is not given. */
  "given-tool-fields": "0.5.23",
  /** `prefix` of a message reaches the template. */
  "message-prefix": "0.5.23",
  /** `/v1/responses`: a thought is one with the answer after it, whatever the phase of that. */
  "thought-in-any-phase": "0.5.23",
} as const;

/** sglang: SGLang's own, and none of vLLM's. */
export type EngineRule = keyof typeof SINCE | keyof typeof SGLANG_SINCE | "sglang";
export type EngineRules = ReadonlySet<EngineRule>;

/** Rules, and what was found out about the model's template. */
export interface RulesOfTemplate {
  readonly rules: EngineRules;
  /** Whether it takes system messages only at the beginning; null: not known. */
  readonly isSystemMerged: boolean | null;
}

export interface EngineNamed {
  readonly engine: Engine;
  /** Such as "0.25.1" or "0.25"; null: the newest whose rules are known. */
  readonly engineVersion: string | null;
}

export function isEngineVersion(text: string): boolean {
  return /^\d{1,4}(\.\d{1,4}){1,2}$/.test(text);
}

export function engineRules({ engine, engineVersion }: EngineNamed): EngineRules {
  const version = partsOf(engineVersion ?? ENGINE_VERSIONS_NEWEST[engine]);
  const known: Readonly<Record<string, string>> = engine === "sglang" ? SGLANG_SINCE : SINCE;
  const rules = Object.keys(known).filter((rule) => isReached(version, partsOf(known[rule] ?? "")));
  return new Set([...(engine === "sglang" ? ["sglang"] : []), ...rules] as EngineRule[]);
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
