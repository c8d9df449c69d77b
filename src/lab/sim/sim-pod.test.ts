/** The simulated pod against the lab engine's own scheduler and block pool, run in simulated time. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Clock } from "../../core/clock.ts";
import { BlockChain } from "../engine/block-chain.ts";
import { BlockHasher, PLAIN_IDENTITY } from "../engine/block-hash.ts";
import { EngineCore } from "../engine/engine-core.ts";
import { H100_8B_COST } from "../engine/step-cost.ts";
import { EventHeap } from "./event-heap.ts";
import { PodHost } from "./pod-host.ts";
import type { PodRequest, PodShape } from "./sim-pod.ts";

const BLOCK_TOKENS = 16;
const SHAPE: PodShape = {
  cost: H100_8B_COST,
  speed: 1,
  maxSeqs: 6,
  chunkTokens: 128,
  blockTokens: BLOCK_TOKENS,
  gpuBlocks: 4000,
  cpuBlocks: 0,
  diskBlocks: 0,
  cpuLoadSeconds: 0,
  diskLoadSeconds: 0,
};

interface Arrival {
  readonly atSeconds: number;
  /** Ids of full blocks; a tail of `tailTokens` follows. */
  readonly blocks: readonly number[];
  readonly tailTokens: number;
  readonly outputTokens: number;
}

interface Times {
  readonly firstToken: number;
  readonly end: number;
  readonly cachedTokens: number;
}

/** Prompts that share beginnings: each is a path in a small tree. */
const arrivals = fc
  .array(
    fc.record({
      atSeconds: fc.double({ min: 0, max: 2, noNaN: true }),
      path: fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 0, maxLength: 9 }),
      tailTokens: fc.integer({ min: 1, max: BLOCK_TOKENS - 1 }),
      outputTokens: fc.integer({ min: 1, max: 30 }),
    }),
    { minLength: 1, maxLength: 30 },
  )
  .map((drawn) =>
    drawn
      .map(({ path, ...rest }): Arrival => {
        let node = 1;
        const blocks = path.map((step) => {
          node = 2 * node + step;
          return node;
        });
        return { ...rest, blocks };
      })
      .sort((a, b) => a.atSeconds - b.atSeconds),
  );

function drain(heap: EventHeap, setNow: (atSeconds: number) => void): void {
  for (let event = heap.take(); event !== undefined; event = heap.take()) {
    setNow(event.atSeconds);
    void event.run();
  }
}

function podRequest(id: number, { blocks, tailTokens, outputTokens }: Arrival): PodRequest {
  return {
    id,
    promptTokens: blocks.length * BLOCK_TOKENS + tailTokens,
    outputTokens,
    blocks,
    slots: [],
    generated: 0,
    computedTokens: 0,
    cachedTokens: null,
    storedBlocks: 0,
    scheduledTokens: 0,
    isTransferred: false,
  };
}

function runPod(work: readonly Arrival[], shape: PodShape): { times: Times[]; host: PodHost } {
  const heap = new EventHeap();
  let nowSeconds = 0;
  const first = new Map<number, number>();
  const times: Times[] = [];
  const host = new PodHost({ id: "p0", role: "both" }, shape, {
    heap,
    nowSeconds: () => nowSeconds,
    onKvChange: () => {},
    onStepEnd: (_, { firstTokens, finished }) => {
      for (const { id } of firstTokens) first.set(id, nowSeconds);
      for (const { id, cachedTokens } of finished) {
        times[id] = {
          firstToken: first.get(id) ?? -1,
          end: nowSeconds,
          cachedTokens: cachedTokens ?? -1,
        };
      }
    },
  });
  for (const [id, arrival] of work.entries()) {
    heap.add(arrival.atSeconds, () => host.submit(podRequest(id, arrival)));
  }
  drain(heap, (atSeconds) => {
    nowSeconds = atSeconds;
  });
  return { times, host };
}

function runEngineCore(work: readonly Arrival[]): Times[] {
  const heap = new EventHeap();
  let nowMs = 0;
  const clock: Clock = {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    after: (delayMs, callback) => {
      heap.add((nowMs + delayMs) / 1000, callback);
      return () => {};
    },
  };
  const core = new EngineCore(
    {
      ...H100_8B_COST,
      gpuBlocks: SHAPE.gpuBlocks + 1,
      maxSeqs: SHAPE.maxSeqs,
      chunkTokens: SHAPE.chunkTokens,
      waitingRequestsMax: 1000,
      timeScale: 1,
    },
    {
      clock,
      nextTurn: (callback) => heap.add(nowMs / 1000, callback),
      publish: () => {},
    },
  );
  const hasher = new BlockHasher({ blockSizeTokens: BLOCK_TOKENS, seed: "sim" });
  const times: Times[] = [];
  for (const [id, arrival] of work.entries()) {
    heap.add(arrival.atSeconds, () => {
      const prompt = [
        ...arrival.blocks.flatMap((block) => Array.from({ length: BLOCK_TOKENS }, () => block)),
        ...Array.from({ length: arrival.tailTokens }, () => 100_000 + id),
      ];
      const chain = new BlockChain(hasher, {
        identity: PLAIN_IDENTITY,
        prompt: Uint32Array.from(prompt),
        outputTokensMax: arrival.outputTokens,
      });
      let firstToken = -1;
      const handle = core.submit({
        chain,
        outputTokens: arrival.outputTokens,
        listener: {
          token: () => {
            if (firstToken < 0) firstToken = nowMs / 1000;
          },
          finish: () => {
            if (typeof handle === "string") return;
            times[id] = { firstToken, end: nowMs / 1000, cachedTokens: handle.cachedTokens() };
          },
        },
      });
    });
  }
  drain(heap, (atSeconds) => {
    nowMs = atSeconds * 1000;
  });
  return times;
}

describe("simulated pod", () => {
  it("gives first tokens, ends and hits when the lab engine does, while memory suffices", () => {
    fc.assert(
      fc.property(arrivals, (work) => {
        const { times } = runPod(work, SHAPE);
        const expected = runEngineCore(work);
        expect(times.length).toBe(work.length);
        for (const [id, { firstToken, end, cachedTokens }] of times.entries()) {
          expect(cachedTokens).toBe(expected[id]?.cachedTokens);
          // The engine runs a step that is due within a millisecond at once.
          expect(Math.abs(firstToken - (expected[id]?.firstToken ?? 0))).toBeLessThan(0.0011);
          expect(Math.abs(end - (expected[id]?.end ?? 0))).toBeLessThan(0.0011);
        }
      }),
      { numRuns: 50 },
    );
  });

  it("ends every request in scarce memory, preempting, and gives all blocks back", () => {
    let preemptions = 0;
    const tight = { ...SHAPE, gpuBlocks: 13, maxSeqs: 20 };
    fc.assert(
      fc.property(arrivals, (work) => {
        const { times, host } = runPod(work, tight);
        expect(times.filter((time) => time.end >= time.firstToken).length).toBe(work.length);
        expect(host.pod.cache.freeBlocks).toBe(tight.gpuBlocks);
        preemptions += host.pod.preemptions;
      }),
      { numRuns: 50 },
    );
    expect(preemptions).toBeGreaterThan(0);
  });

  it("is as many times faster as its speed says", () => {
    const work = [{ atSeconds: 0, blocks: [1, 2, 3], tailTokens: 5, outputTokens: 10 }];
    const slow = runPod(work, SHAPE).times[0];
    const fast = runPod(work, { ...SHAPE, speed: 4 }).times[0];
    expect(slow?.end).toBeCloseTo(4 * (fast?.end ?? 0), 9);
  });

  it("loads evicted blocks from the lower tiers in place of computing them", () => {
    const tiers = { ...SHAPE, gpuBlocks: 5, cpuBlocks: 4, diskBlocks: 40, cpuLoadSeconds: 0.001 };
    const prompt = (blocks: number[], atSeconds: number): Arrival => ({
      ...{ atSeconds, blocks, tailTokens: 1, outputTokens: 1 },
    });
    const work = [prompt([1, 2, 3, 4], 0), prompt([5, 6, 7, 8], 1), prompt([1, 2, 3, 4], 2)];
    const { times, host } = runPod(work, { ...tiers, diskLoadSeconds: 0.002 });
    expect(times[2]?.cachedTokens).toBe(4 * BLOCK_TOKENS);
    // Four blocks came from NVMe, where the CPU tier had pushed them.
    expect((times[2]?.end ?? 0) - 2).toBeGreaterThan(H100_8B_COST.stepBaseSeconds + 4 * 0.002);
    expect(host.pod.cache.disk.has(4)).toBe(true);
  });
});
