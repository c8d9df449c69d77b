/** From a request's bytes to block keys. */
import type { BlockHasher } from "../src/keys/block-hasher.ts";
import { readRequestBody } from "../src/prompt/request-body.ts";
import type { BenchCase } from "./harness.ts";
import { BLOCK, NAMESPACE, tokensOf } from "./workload.ts";

/** Ids of a vocabulary as today's models have it. */
const VOCABULARY_TOKENS = 151_936;

export function promptCases(hasher: BlockHasher): BenchCase[] {
  return [1, 8, 32].flatMap((thousands) => idsCases(hasher, thousands));
}

/** A body with 1024 token ids for each of `thousands`, and its keys. */
function idsCases(hasher: BlockHasher, thousands: number): BenchCase[] {
  const tokens = Array.from(tokensOf((thousands * 1024) / BLOCK), (id) => id % VOCABULARY_TOKENS);
  const body = Buffer.from(JSON.stringify({ model: "bench", prompt: tokens, max_tokens: 16 }));
  const parent = hasher.rootKey(NAMESPACE);
  const keysOf = (ids: Uint32Array): void =>
    void hasher.chainKeys({ parent, tokens: ids, blockSizeTokens: BLOCK });
  const naive = (): void => {
    const { prompt }: { prompt: number[] } = JSON.parse(body.toString("utf8"));
    keysOf(Uint32Array.from(prompt));
  };
  const run = (): void => {
    const read = readRequestBody("/v1/completions", body);
    if (!read.ok || read.value.prompt.kind !== "tokens") throw new Error("token ids expected");
    for (const ids of read.value.prompt.prompts) keysOf(ids);
  };
  const row = { unit: "us", blocks: 1 } as const;
  const name = `prompt.ids.${thousands}k`;
  return [
    { ...row, name: `naive.${name}`, run: naive },
    { ...row, name, run, reference: `naive.${name}` },
  ];
}
