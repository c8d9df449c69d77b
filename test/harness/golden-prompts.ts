/** What engines' own classes made of requests, by test/golden/prompts. */
import { readFileSync } from "node:fs";

export interface GoldenPrompts {
  readonly templates: Readonly<Record<string, string>>;
  readonly cases: readonly {
    readonly path: string;
    readonly template: string;
    readonly body: object;
    readonly text: string;
    readonly isSpecialAdded: boolean;
  }[];
}

/** `name`: engine and version, such as "vllm-0.33.0". */
export function goldenPrompts(name: string): GoldenPrompts {
  const file = new URL(`../golden/prompts/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8"));
}
