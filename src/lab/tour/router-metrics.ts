/** Reads from the router's /metrics the few numbers that the tour shows. */

export interface RouterNumbers {
  /** Of decided requests since the router's start. */
  readonly promptTokens: number;
  readonly predictedTokens: number;
  readonly possibleTokens: number;
  /** Decisions by load alone, because one was late or failed. */
  readonly fallbacks: number;
  readonly indexBlocks: number;
  /** The slowest endpoint's. */
  readonly lagSeconds: number;
  readonly holders: number;
  readonly exactHolders: number;
}

interface Sample {
  readonly name: string;
  /** As written: `state="EXACT",rank="0"`. */
  readonly labels: string;
  readonly value: number;
}

/** Absent metrics count as 0. */
export function readRouterNumbers(text: string): RouterNumbers {
  const samples = text.split("\n").flatMap(sampleOf);
  const valuesOf = (name: string): number[] =>
    samples.filter((sample) => sample.name === name).map(({ value }) => value);
  const sum = (name: string): number => valuesOf(name).reduce((total, value) => total + value, 0);
  const holders = samples.filter(
    ({ name, value }) => name === "kvatlas_holder_state" && value === 1,
  );
  return {
    promptTokens: sum("kvatlas_prompt_tokens_total"),
    predictedTokens: sum("kvatlas_predicted_tokens_total"),
    possibleTokens: sum("kvatlas_possible_tokens_total"),
    fallbacks: sum("kvatlas_extproc_fallbacks_total"),
    indexBlocks: sum("kvatlas_index_blocks"),
    lagSeconds: Math.max(0, ...valuesOf("kvatlas_index_lag_seconds")),
    holders: holders.length,
    exactHolders: holders.filter(({ labels }) => labels.includes('state="EXACT"')).length,
  };
}

/** What the counters gained since `before`; gauges as they are. */
export function routerNumbersSince(numbers: RouterNumbers, before: RouterNumbers): RouterNumbers {
  return {
    ...numbers,
    promptTokens: numbers.promptTokens - before.promptTokens,
    predictedTokens: numbers.predictedTokens - before.predictedTokens,
    possibleTokens: numbers.possibleTokens - before.possibleTokens,
    fallbacks: numbers.fallbacks - before.fallbacks,
  };
}

function sampleOf(line: string): Sample[] {
  const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
  const value = Number(match?.[3]);
  if (match === null || !Number.isFinite(value)) return [];
  return [{ name: match[1] ?? "", labels: match[2] ?? "", value }];
}
