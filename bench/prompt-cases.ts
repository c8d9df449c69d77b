/** From a request's bytes to block keys. */
import { silentLog } from "../src/core/log.ts";
import { silentMeter } from "../src/core/meter.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";
import { promptConfigSchema } from "../src/prompt/config.ts";
import { engineRules } from "../src/prompt/engine-rules.ts";
import { PromptReader } from "../src/prompt/prompt-reader.ts";
import { readPrompt } from "../src/prompt/request-body.ts";
import { type ChosenTokenizer, startTokenizer } from "../src/prompt/tokenizer-choice.ts";
import { tokenizerFolder } from "../test/harness/tokenizers.ts";
import { chatBody } from "./chat.ts";
import type { BenchCase } from "./harness.ts";
import { BLOCK, NAMESPACE, tokensOf } from "./workload.ts";

/** Ids of a vocabulary as today's models have it. */
const VOCABULARY_TOKENS = 151_936;

export function promptCases(hasher: BlockHasher): BenchCase[] {
  return [...[1, 8, 32].flatMap((thousands) => idsCases(hasher, thousands)), ...chatCases(hasher)];
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
    const read = readPrompt("/v1/completions", body);
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

const NEVER = new AbortController().signal;

/**
 * A chat of 220 KB in 100 messages, tokenised in this process: all of it new, or all but the last
 * message seen before.
 */
function chatCases(hasher: BlockHasher): BenchCase[] {
  let turn = 0;
  const chat = (name: string, memoBytesMax: number): BenchCase => {
    let next = chatBody("?");
    let started: Promise<{ chosen: ChosenTokenizer; reader: PromptReader }> | null = null;
    return {
      name,
      unit: "us",
      blocks: 1,
      prepare: (): void => {
        turn += 1;
        next = chatBody(`${turn}?`);
      },
      run: async (): Promise<void> => {
        started ??= startReader(hasher, memoBytesMax);
        const { reader } = await started;
        const request = { path: "/v1/chat/completions", headers: new Map(), body: next };
        const reading = await reader.read(request, NEVER);
        if (reading.tokens === null) throw new Error(`${reading.reason}: ${reading.detail}`);
        reader.keyed(reading).keysOf(BLOCK);
      },
      stop: async (): Promise<void> => void (await started)?.chosen.stop(),
    };
  };
  return [chat("prompt.chat.220k.cold", 0), chat("prompt.chat.220k.warm", 67_108_864)];
}

async function startReader(
  hasher: BlockHasher,
  memoBytesMax: number,
): Promise<{ chosen: ChosenTokenizer; reader: PromptReader }> {
  const tokenizerPath = tokenizerFolder("qwen2_5");
  const config = promptConfigSchema.parse({ tokenize: "local", tokenizerPath, memoBytesMax });
  const chosen = await startTokenizer(config, {
    ...{ clock: nodeClock, log: silentLog, engines: () => [] },
  });
  const { tokensMax } = config;
  const { tokenizer } = chosen;
  const ports = { hasher, meter: silentMeter };
  return {
    chosen,
    reader: new PromptReader({
      ...ports,
      tokensMax,
      tokenizer,
      model: "bench",
      rules: engineRules({ engine: "vllm", engineVersion: "0.33.0" }),
    }),
  };
}
