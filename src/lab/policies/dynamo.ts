/**
 * Re-creation of NVIDIA Dynamo's default cost, from its published rule: blocks to prefill (own
 * requests' and this one's, less credit for cached blocks) plus blocks in decode use, from the
 * router's own bookkeeping; the smallest wins, ties by chance.
 */
import { type BookedPod, PodBook } from "./pod-book.ts";
import type { PolicyMemory } from "./policy-router.ts";

const CREDIT = { gpu: 1, cpu: 0.75, disk: 0.25 } as const;

export function dynamo(): PolicyMemory {
  return {
    score: ({ candidates, message, book }) =>
      candidates.map((pod) => {
        const tokens = pod.prefillTokens + message.input_tokens;
        const prefill = Math.max(0, tokens / book.blockTokens - credit(pod, message.blocks));
        return prefill + decodeBlocks(pod, message.blocks, book.blockTokens);
      }),
  };
}

function credit({ held }: BookedPod, blocks: readonly number[]): number {
  const gpu = PodBook.leading(blocks, (block) => held.gpu.has(block));
  const behindGpu = blocks.slice(gpu);
  const cpu = PodBook.leading(behindGpu, (block) => held.cpu.has(block));
  const disk = PodBook.leading(behindGpu.slice(cpu), (block) => held.disk.has(block));
  return CREDIT.gpu * gpu + CREDIT.cpu * cpu + CREDIT.disk * disk;
}

/** Blocks that would be in use with this request: shared ones once, answers by what is streamed. */
function decodeBlocks(pod: BookedPod, blocks: readonly number[], blockTokens: number): number {
  let used = pod.activeBlocks.size;
  for (const block of blocks) if (!pod.activeBlocks.has(block)) used += 1;
  for (const { generatedTokens } of pod.requests) used += generatedTokens / blockTokens;
  return used;
}
