/** A Mooncake-form trace as requests of a simulation. */
import { TRACE_BLOCK_TOKENS, type TraceRequest } from "../workload/mooncake-trace.ts";
import type { SimRequest } from "./sim-request.ts";

/**
 * Full blocks only. What a later prompt holds behind all blocks of an earlier one is taken for the
 * earlier one's answer, as far as that reaches. A session is what shares its first two blocks.
 */
export function simRequests(trace: readonly TraceRequest[]): SimRequest[] {
  const next = nextBlocks(trace);
  return trace.map(({ atMs, inputTokens, outputTokens, hashIds }) => {
    const fullBlocks = Math.floor(inputTokens / TRACE_BLOCK_TOKENS);
    const answerEnd = Math.floor((inputTokens + outputTokens) / TRACE_BLOCK_TOKENS);
    const last = hashIds[fullBlocks - 1];
    const later = last === undefined ? undefined : next.get(last);
    return {
      atSeconds: atMs / 1000,
      session: String(hashIds[1] ?? hashIds[0]),
      inputTokens,
      outputTokens: Math.max(1, outputTokens),
      blocks: hashIds.slice(0, fullBlocks),
      answerBlocks: later?.slice(fullBlocks, answerEnd) ?? [],
    };
  });
}

/** For each prompt's last full block the full blocks of the first longer prompt through it. */
function nextBlocks(trace: readonly TraceRequest[]): ReadonlyMap<number, readonly number[]> {
  const ends = new Set<number>();
  const next = new Map<number, readonly number[]>();
  for (const { inputTokens, hashIds } of trace) {
    const blocks = hashIds.slice(0, Math.floor(inputTokens / TRACE_BLOCK_TOKENS));
    for (const block of blocks.slice(0, -1)) {
      if (ends.has(block) && !next.has(block)) next.set(block, blocks);
    }
    const last = blocks.at(-1);
    if (last !== undefined) ends.add(last);
  }
  return next;
}
