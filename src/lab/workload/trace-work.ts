/**
 * A trace as work: a sample of its conversations, with time scaled to a given load.
 *
 * Whole conversations are drawn, not single requests, so that what the trace's prompts share stays
 * shared. A conversation is what shares its first two blocks: a first block can be common to all.
 */
import { KvError } from "../../core/errors.ts";
import type { Random } from "../../core/random.ts";
import { TRACE_BLOCK_TOKENS, type TraceRequest, traceTokens } from "./mooncake-trace.ts";
import type { OfferedLoad, PlannedWork } from "./planned-work.ts";

export interface TraceLimits {
  /** Requests with longer prompts are left out, and counted in the description. */
  readonly promptTokensMax: number;
  /** Longer answers are cut to this. */
  readonly outputTokensMax: number;
}

/** Draws conversations until their new tokens make up the load, or all are taken. */
export function planTrace(
  trace: readonly TraceRequest[],
  options: { readonly load: OfferedLoad; readonly limits: TraceLimits },
  random: Random,
): PlannedWork {
  const { load, limits } = options;
  const fitting = trace.filter(({ inputTokens }) => inputTokens <= limits.promptTokensMax);
  const { taken, newTokens } = sample(fitting, load, random);
  const firstMs = taken[0]?.atMs;
  const lastMs = taken.at(-1)?.atMs;
  if (firstMs === undefined || lastMs === undefined) {
    throw new KvError(
      "ERR_TRACE_INVALID",
      `none of the trace's ${trace.length} prompts is within ${limits.promptTokensMax} tokens`,
    );
  }
  const wantedMs = Math.min(load.seconds, newTokens / load.newTokensPerSecond) * 1000;
  const scale = lastMs === firstMs ? 0 : wantedMs / (lastMs - firstMs);
  const requests = taken.map((request) => ({
    dueMs: (request.atMs - firstMs) * scale,
    after: null,
    prompt: traceTokens(request),
    outputTokens: Math.max(1, Math.min(request.outputTokens, limits.outputTokensMax)),
  }));
  const counts = { all: trace.length, taken: taken.length, fitting: fitting.length, scale };
  return { requests, description: describe(counts, limits) };
}

function sample(
  trace: readonly TraceRequest[],
  load: OfferedLoad,
  random: Random,
): { taken: TraceRequest[]; newTokens: number } {
  const conversations = Map.groupBy(trace, ({ hashIds }) => hashIds[1] ?? hashIds[0]);
  const seen = new Set<number>();
  const taken: TraceRequest[] = [];
  let newTokens = 0;
  for (const conversation of shuffled([...conversations.values()], random)) {
    if (newTokens >= load.seconds * load.newTokensPerSecond) break;
    for (const request of conversation) {
      taken.push(request);
      newTokens += takeNewTokens(request, seen);
    }
  }
  return { taken: taken.sort((a, b) => a.atMs - b.atMs), newTokens };
}

/** Tokens in blocks that are not in `seen`, which gets them. */
function takeNewTokens({ hashIds, inputTokens }: TraceRequest, seen: Set<number>): number {
  let newTokens = 0;
  for (const [block, hashId] of hashIds.entries()) {
    if (seen.has(hashId)) continue;
    seen.add(hashId);
    newTokens += Math.min(TRACE_BLOCK_TOKENS, inputTokens - block * TRACE_BLOCK_TOKENS);
  }
  return newTokens;
}

function shuffled<Item>(items: readonly Item[], random: Random): Item[] {
  return items
    .map((item) => ({ item, place: random.next() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

function describe(
  counts: {
    readonly all: number;
    readonly taken: number;
    readonly fitting: number;
    readonly scale: number;
  },
  { promptTokensMax, outputTokensMax }: TraceLimits,
): string[] {
  const { all, taken, fitting, scale } = counts;
  const pace =
    scale === 0
      ? "all at once"
      : scale < 1
        ? `${(1 / scale).toFixed(1)} times as fast as recorded`
        : `stretched to ${scale.toFixed(1)} times the recorded time`;
  const tooLong = all - fitting;
  return [
    `${taken} of the trace's ${all} requests (whole conversations, drawn by the seed), ${pace};`,
    `answers cut to ${outputTokensMax} tokens${
      tooLong === 0 ? "" : `; never taken: ${tooLong} prompts over ${promptTokensMax} tokens`
    }`,
  ];
}
