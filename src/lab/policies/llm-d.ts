/**
 * Re-creations of llm-d's weighted scorers and of the Gateway API inference extension's defaults,
 * from their published rules: each scorer gives 0 to 1, the highest weighted sum wins, ties by
 * chance. Queue and KV usage are the scraped values as they are, however old.
 */
import type { BookedPod } from "./pod-book.ts";
import { PodBook } from "./pod-book.ts";
import type { PolicyInput, PolicyMemory } from "./policy-router.ts";

/** Life of the entries that its speculative indexing makes of own decisions, s. */
const SPECULATIVE_SECONDS = 2;
/** A cached block below the GPU counts this much. */
const LOWER_TIER_SCORE = 0.8;
/** Blocks that the approximate index remembers for each pod. */
const APPROXIMATE_BLOCKS_MAX = 31_250;

/** Precise prefix scorer on KV events, weights prefix:queue:kv 2:2:1. */
export function llmD(): PolicyMemory {
  const speculative = new Map<string, Map<number, number>>();
  return {
    score: ({ candidates, message, ...rest }): number[] => {
      const prefix = (pod: BookedPod): number => {
        const { gpu, cpu, disk } = pod.held;
        const own = speculative.get(pod.facts.id);
        let score = 0;
        for (const block of message.blocks) {
          if (gpu.has(block) || (own?.get(block) ?? 0) > message.t) score += 1;
          else if (cpu.has(block) || disk.has(block)) score += LOWER_TIER_SCORE;
          else break;
        }
        return score / Math.max(1, message.blocks.length);
      };
      const weights = { prefix: 2, queue: 2, kv: 1 };
      return weighted({ candidates, message, ...rest }, weights, prefix);
    },
    chosen: (message, pod): void => {
      const entries = speculative.get(pod.facts.id) ?? new Map<number, number>();
      speculative.set(pod.facts.id, entries);
      for (const [block, until] of entries) {
        if (until > message.t) break;
        entries.delete(block);
      }
      for (const block of message.blocks) {
        entries.delete(block);
        entries.set(block, message.t + SPECULATIVE_SECONDS);
      }
    },
  };
}

/** Approximate prefix scorer on its own decisions, weights prefix:queue:kv 3:2:2. */
export function gatewayDefault(): PolicyMemory {
  const sent = new Map<string, Set<number>>();
  return {
    score: (input) =>
      weighted(input, { prefix: 3, queue: 2, kv: 2 }, ({ facts }) => {
        const blocks = sent.get(facts.id);
        const hit = PodBook.leading(input.message.blocks, (block) => blocks?.has(block) === true);
        return hit / Math.max(1, input.message.blocks.length);
      }),
    chosen: ({ blocks }, { facts }): void => {
      const known = sent.get(facts.id) ?? new Set<number>();
      sent.set(facts.id, known);
      for (const block of blocks) {
        known.delete(block);
        known.add(block);
      }
      for (const oldest of known) {
        if (known.size <= APPROXIMATE_BLOCKS_MAX) break;
        known.delete(oldest);
      }
    },
  };
}

function weighted(
  { candidates }: PolicyInput,
  weights: { readonly prefix: number; readonly queue: number; readonly kv: number },
  prefix: (pod: BookedPod) => number,
): number[] {
  const queues = candidates.map(({ metrics }) => metrics?.waiting ?? 0);
  const max = Math.max(...queues);
  const min = Math.min(...queues);
  return candidates.map((pod, index) => {
    const queue = max === min ? 1 : (max - (queues[index] ?? 0)) / (max - min);
    const kv = 1 - (pod.metrics?.kv_usage ?? 0);
    return -(weights.prefix * prefix(pod) + weights.queue * queue + weights.kv * kv);
  });
}
