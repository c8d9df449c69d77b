/** Prompts of the chaos' documents: what a router matches of them, and what engines have of them. */
import { PodKnowledge } from "../../src/app/pod-knowledge.ts";
import { matchPrompt } from "../../src/app/prompt-match.ts";
import { holderName } from "../../src/core/ids.ts";
import { silentMeter } from "../../src/core/meter.ts";
import type { IndexReader } from "../../src/indexer/block-index.ts";
import type { Residency } from "../../src/indexer/residency.ts";
import type { BlockHasher } from "../../src/keys/block-hasher.ts";
import { engineRules } from "../../src/prompt/engine-rules.ts";
import { PromptReader } from "../../src/prompt/prompt-reader.ts";
import { DOCUMENTS, documentTokens, type TruthBlock } from "./chaos-content.ts";
import type { ChaosEngine } from "./chaos-engine.ts";
import type { Holdings } from "./chaos-said.ts";

export interface ChaosPrompt {
  readonly document: number;
  readonly tokens: readonly number[];
  readonly lora: string | null;
  readonly salt: string | null;
}

/** Leading tokens: in any tier, and in the GPU's. */
interface Matched {
  readonly held: number;
  readonly gpu: number;
}

export const NOTHING_MATCHED: Matched = { held: 0, gpu: 0 };
/** Longer than any chain. */
const PROMPT_TOKENS = 128;

export class ChaosPrompts {
  readonly #reader: PromptReader;
  readonly all: readonly ChaosPrompt[];

  constructor(hasher: BlockHasher, model: string) {
    this.#reader = new PromptReader({
      ...{
        tokensMax: PROMPT_TOKENS,
        model,
        hasher,
        tokenizer: null,
        meter: silentMeter,
        rules: engineRules({ engine: "vllm", engineVersion: "0.33.0" }),
      },
    });
    this.all = Array.from({ length: DOCUMENTS }, (_, document) => {
      const tokens = documentTokens(document, PROMPT_TOKENS);
      return [
        { document, tokens, lora: null, salt: null },
        { document, tokens, lora: "sql", salt: null },
        { document, tokens, lora: null, salt: "tenant-a" },
      ];
    }).flat();
  }

  /** By holder, as decisions have it. */
  match(
    { tokens, lora, salt }: ChaosPrompt,
    index: IndexReader,
    residency: Residency,
  ): ReadonlyMap<string, Matched> {
    const events = { heardMsOf: (): number => 0 };
    const knowledge = new PodKnowledge({ holders: residency, events, assumedLifeMs: 1 });
    const deps = { index, holders: residency, knowledge, meter: silentMeter };
    const prompt = { tokens: Uint32Array.from(tokens), lora, cacheSalt: salt };
    const known = { states: new Map(), approximated: new Map() };
    const input = { endpoints: [], known, nowMs: 0 };
    const matched = new Map<string, Matched>();
    for (const sized of matchPrompt(deps, this.#reader.keyed(prompt), input).sized) {
      const { blockSizeTokens, matches } = sized;
      for (const { holder, blocks, gpuBlocks } of matches) {
        const { held, gpu } = matched.get(holderName(holder)) ?? NOTHING_MATCHED;
        matched.set(holderName(holder), {
          held: Math.max(held, blocks * blockSizeTokens),
          gpu: Math.max(gpu, gpuBlocks * blockSizeTokens),
        });
      }
    }
    return matched;
  }
}

/** By the definition: of blocks that the engine has, each behind one that it has, the farthest. */
export function longestChain(
  prompt: ChaosPrompt,
  holdings: Holdings,
  engine: ChaosEngine,
): Matched {
  const blocks = [...holdings].flatMap(([handle, text]) => {
    const block = engine.blockOf(handle);
    const isGpu = !/ 0,/.test(text);
    return block !== undefined && block.lora === prompt.lora ? [{ block, isGpu }] : [];
  });
  const longest = { held: 0, gpu: 0 };
  const visit = (parent: TruthBlock | null, start: number, isGpuSoFar: boolean): void => {
    for (const { block, isGpu } of blocks) {
      if ((block.parent?.handle ?? null) !== (parent?.handle ?? null)) continue;
      const salt = parent === null ? prompt.salt : null;
      if (JSON.stringify(block.extras ?? []) !== JSON.stringify(salt === null ? [] : [salt]))
        continue;
      const end = start + block.size;
      if (block.tokens.join() !== prompt.tokens.slice(start, end).join()) continue;
      longest.held = Math.max(longest.held, end);
      const isInGpu = isGpuSoFar && isGpu;
      if (isInGpu) longest.gpu = Math.max(longest.gpu, end);
      visit(block, end, isInGpu);
    }
  };
  visit(null, 0, true);
  return longest;
}
