/** Policies with one thought: turns, load, or the cache. */
import { PodBook } from "./pod-book.ts";
import type { PolicyMemory } from "./policy-router.ts";

export function roundRobin(): PolicyMemory {
  let turn = 0;
  return {
    score: ({ candidates }): number[] => {
      turn += 1;
      const next = turn % candidates.length;
      return candidates.map((_, index) => (index === next ? 0 : 1));
    },
  };
}

/** Own requests in flight, as Envoy's LEAST_REQUEST counts them. */
export function leastRequests(): PolicyMemory {
  return { score: ({ candidates }) => candidates.map(({ requests }) => requests.size) };
}

/** Longest prefix whatever the load: the hit rate that affinity alone would have. */
export function affinity(): PolicyMemory {
  return {
    score: ({ candidates, message }) =>
      candidates.map(
        ({ held, activeBlocks }) =>
          -PodBook.leading(
            message.blocks,
            (block) => held.gpu.has(block) || activeBlocks.has(block),
          ),
      ),
  };
}
