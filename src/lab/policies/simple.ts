/** Policies that look at no cache. */
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
