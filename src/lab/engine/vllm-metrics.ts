/** The text of GET /metrics under the names of vLLM's V1 engine. */

/** `old`: gpu_cache_usage_perc and gpu_prefix_cache_*, as vLLM had them before it dropped "gpu_". */
export type MetricNames = "new" | "old";

/** Upper bounds in seconds of vLLM's time_to_first_token_seconds. */
const TTFT_BOUNDS_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  160, 640, 2560,
] as const;

/** Observed times to first token, in seconds. */
export class TtftHistogram {
  readonly #counts: number[] = new Array<number>(TTFT_BOUNDS_SECONDS.length).fill(0);
  #sum = 0;
  #count = 0;

  observe(seconds: number): void {
    const bucket = TTFT_BOUNDS_SECONDS.findIndex((bound) => seconds <= bound);
    if (bucket >= 0) this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sum += seconds;
    this.#count += 1;
  }

  lines(name: string, label: string): string[] {
    let below = 0;
    const lines = TTFT_BOUNDS_SECONDS.map((bound, index) => {
      below += this.#counts[index] ?? 0;
      return `${name}_bucket{le="${Number.isInteger(bound) ? bound.toFixed(1) : bound}",${label}} ${below}`;
    });
    lines.push(`${name}_bucket{le="+Inf",${label}} ${this.#count}`);
    lines.push(`${name}_count{${label}} ${this.#count}`, `${name}_sum{${label}} ${this.#sum}`);
    return lines;
  }
}

export interface MetricsSnapshot {
  readonly modelName: string;
  /** Data-parallel rank: the label "engine". */
  readonly rank: number;
  readonly waiting: number;
  readonly running: number;
  /** 0 to 1. */
  readonly kvUsage: number;
  /** Prompt tokens looked up in the prefix cache, and found there. */
  readonly prefixQueryTokens: number;
  readonly prefixHitTokens: number;
  /** Prompt tokens found in a tier below the GPU; null without such tiers. */
  readonly externalHitTokens: number | null;
  readonly promptTokens: number;
  readonly generationTokens: number;
  readonly blockSizeTokens: number;
  readonly gpuBlocks: number;
  readonly ttft: TtftHistogram;
}

/** One snapshot per rank; a rank more is a series more under each name. */
export function metricsText(snapshots: readonly MetricsSnapshot[], names: MetricNames): string {
  const gpu = names === "new" ? "" : "gpu_";
  const usageName = names === "new" ? "kv_cache_usage_perc" : "gpu_cache_usage_perc";
  const lines: string[] = [];
  const add = (
    type: "gauge" | "counter",
    name: string,
    help: string,
    value: (snapshot: MetricsSnapshot) => number,
  ): void => {
    lines.push(`# HELP vllm:${name} ${help}`, `# TYPE vllm:${name} ${type}`);
    for (const one of snapshots) lines.push(`vllm:${name}{${labelOf(one)}} ${value(one)}`);
  };
  add("gauge", "num_requests_running", "Requests in model execution batches.", (s) => s.running);
  add("gauge", "num_requests_waiting", "Requests waiting to be processed.", (s) => s.waiting);
  add("gauge", usageName, "KV-cache usage. 1 means 100 percent usage.", (s) => s.kvUsage);
  add("counter", `${gpu}prefix_cache_queries_total`, "Queried tokens.", (s) => s.prefixQueryTokens);
  add("counter", `${gpu}prefix_cache_hits_total`, "Cached tokens found.", (s) => s.prefixHitTokens);
  if (snapshots.some((one) => one.externalHitTokens !== null)) {
    const queries = "external_prefix_cache_queries_total";
    add("counter", queries, "Tokens queried below the GPU.", (s) => {
      return s.prefixQueryTokens - s.prefixHitTokens;
    });
    const hits = "external_prefix_cache_hits_total";
    add("counter", hits, "Tokens found below the GPU.", (s) => s.externalHitTokens ?? 0);
  }
  add("counter", "prompt_tokens_total", "Prefill tokens processed.", (s) => s.promptTokens);
  const generated = "Generation tokens processed.";
  add("counter", "generation_tokens_total", generated, (s) => s.generationTokens);
  add("counter", "num_preemptions_total", "Preemptions; this engine makes none.", () => 0);
  lines.push(
    "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig",
    "# TYPE vllm:cache_config_info gauge",
    ...snapshots.map(
      ({ blockSizeTokens, gpuBlocks, rank }) =>
        `vllm:cache_config_info{block_size="${blockSizeTokens}",enable_prefix_caching="True",engine="${rank}",num_gpu_blocks="${gpuBlocks}"} 1`,
    ),
    "# HELP vllm:time_to_first_token_seconds Time to first token in seconds.",
    "# TYPE vllm:time_to_first_token_seconds histogram",
    ...snapshots.flatMap((one) => one.ttft.lines("vllm:time_to_first_token_seconds", labelOf(one))),
  );
  return `${lines.join("\n")}\n`;
}

function labelOf(snapshot: MetricsSnapshot): string {
  return `engine="${snapshot.rank}",model_name="${escapeLabel(snapshot.modelName)}"`;
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
