import { describe, expect, it } from "vitest";
import type { Clock } from "../../core/clock.ts";
import { seededRandom } from "../../core/random.ts";
import { BlockChain } from "./block-chain.ts";
import { BlockHasher, PLAIN_IDENTITY } from "./block-hash.ts";
import {
  EngineCore,
  type EngineCoreOptions,
  type FinishReason,
  type RequestHandle,
} from "./engine-core.ts";
import type { EngineFact } from "./engine-facts.ts";

/** Time that stands still until the next timer or turn is run by hand. */
class ManualTime {
  #nowMs = 0;
  #jobs: { readonly atMs: number; readonly run: () => void }[] = [];

  readonly clock: Clock = {
    nowMs: () => this.#nowMs,
    wallMs: () => this.#nowMs,
    after: (delayMs, callback) => {
      const job = { atMs: this.#nowMs + delayMs, run: callback };
      this.#jobs.push(job);
      return () => {
        this.#jobs = this.#jobs.filter((other) => other !== job);
      };
    },
  };

  readonly nextTurn = (callback: () => void): void => {
    this.#jobs.push({ atMs: this.#nowMs, run: callback });
  };

  /** Runs the earliest job; false when there is none. */
  next(): boolean {
    const job = this.#jobs.toSorted((a, b) => a.atMs - b.atMs)[0];
    if (job === undefined) return false;
    this.#jobs = this.#jobs.filter((other) => other !== job);
    this.#nowMs = Math.max(this.#nowMs, job.atMs);
    job.run();
    return true;
  }
}

const SIZE = 4;
const hasher = new BlockHasher({ blockSizeTokens: SIZE, seed: "test" });
const OPTIONS: EngineCoreOptions = {
  stepBaseSeconds: 0.01,
  prefillSecondsPerToken: 0.001,
  attnSecondsPerPair: 0,
  decodeSecondsPerContextToken: 0,
  gpuBlocks: 33,
  maxSeqs: 8,
  chunkTokens: 16,
  waitingRequestsMax: 4,
  timeScale: 1,
};

interface Outcome {
  readonly tokens: number[];
  readonly tokenMs: number[];
  reason: FinishReason | null;
}

function setUp(partial: Partial<EngineCoreOptions> = {}): {
  time: ManualTime;
  core: EngineCore;
  batches: (readonly EngineFact[])[];
  submit: (prompt: readonly number[], outputTokens: number) => Outcome & { handle: RequestHandle };
} {
  const time = new ManualTime();
  const batches: (readonly EngineFact[])[] = [];
  const core = new EngineCore(
    { ...OPTIONS, ...partial },
    { clock: time.clock, nextTurn: time.nextTurn, publish: (facts) => batches.push(facts) },
  );
  const submit = (
    prompt: readonly number[],
    outputTokens: number,
  ): Outcome & { handle: RequestHandle } => {
    const outcome: Outcome = { tokens: [], tokenMs: [], reason: null };
    const handle = core.submit({
      chain: new BlockChain(hasher, {
        identity: PLAIN_IDENTITY,
        prompt: Uint32Array.from(prompt),
        outputTokensMax: outputTokens,
      }),
      outputTokens,
      listener: {
        token: (token) => {
          outcome.tokens.push(token);
          outcome.tokenMs.push(time.clock.nowMs());
        },
        finish: (reason) => {
          outcome.reason = reason;
        },
      },
    });
    if (typeof handle === "string") throw new Error(handle);
    return Object.assign(outcome, { handle });
  };
  return { time, core, batches, submit };
}

const range = (count: number, first = 0): number[] =>
  Array.from({ length: count }, (_, index) => first + index);

describe("EngineCore", () => {
  it("prefills in chunks, then decodes one token a step, in the stated times", () => {
    const { time, submit, batches } = setUp();
    const outcome = submit(range(24), 6);
    while (time.next());
    // 16 tokens: 26 ms; 8 tokens: 18 ms; then 10 ms a step.
    expect(outcome.tokenMs.map(Math.round)).toEqual([44, 54, 64, 74, 84, 94]);
    expect(outcome.reason).toBe("length");
    // 24 + 6 - 1 tokens have KV: 7 blocks; the chunks store 4 and 2, decoding the seventh.
    expect(
      batches.map((facts) => facts.map((fact) => fact.kind === "stored" && fact.blocks)),
    ).toEqual([[4], [2], [1]]);
  });

  it("finds the prompt and its answer again in the next turn of a conversation", () => {
    const { time, submit, core } = setUp();
    const first = submit(range(10), 6);
    while (time.next());
    const second = submit([...range(10), ...first.tokens, 99], 2);
    while (time.next());
    // 10 + 5 computed tokens: 3 full blocks.
    expect(second.handle.cachedTokens()).toBe(12);
    expect(core.totals).toMatchObject({ requests: 2, finished: 2, cachedTokens: 12 });
    expect(core.pool.freeBlocks).toBe(core.pool.usableBlocks);
  });

  it("stores the recomputed last block of a fully cached prompt a second time", () => {
    const { time, submit, core, batches } = setUp();
    submit(range(8), 1);
    submit(range(8), 1);
    while (time.next());
    expect(batches.map((facts) => facts.length)).toEqual([2]);
    expect(core.pool.cachedBlocks).toBe(3);
    expect(core.pool.distinctHashes).toBe(2);
  });

  it("lets a request wait until its prompt and whole output fit, and takes the next in order", () => {
    const { time, submit, core } = setUp({ gpuBlocks: 11 });
    const large = submit(range(16), 17);
    const next = submit(range(12, 500), 5);
    const small = submit(range(2, 900), 1);
    time.next();
    expect([core.running, core.waiting]).toEqual([1, 2]);
    while (time.next());
    expect([large.reason, next.reason, small.reason]).toEqual(["length", "length", "length"]);
    expect(next.tokenMs[0]).toBeGreaterThan(large.tokenMs.at(-1) ?? 0);
    expect(small.tokenMs[0]).toBeGreaterThan(large.tokenMs.at(-1) ?? 0);
  });

  it("refuses what can never fit, and more waiting requests than allowed", () => {
    const { core, submit } = setUp();
    expect(() => submit(range(129), 1)).toThrow("too_large");
    for (let i = 0; i < 4; i++) submit(range(4), 1);
    expect(() => submit(range(4), 1)).toThrow("full");
    expect(core.waiting).toBe(4);
  });

  it("frees an aborted request at once, running or waiting", () => {
    const { time, submit, core } = setUp({ maxSeqs: 1 });
    const running = submit(range(8), 50);
    const waiting = submit(range(8), 5);
    time.next();
    time.next();
    running.handle.abort();
    waiting.handle.abort();
    running.handle.abort();
    expect([running.reason, waiting.reason]).toEqual(["aborted", "aborted"]);
    while (time.next());
    expect([core.running, core.waiting, core.totals.aborted]).toEqual([0, 0, 2]);
    expect(core.pool.freeBlocks).toBe(core.pool.usableBlocks);
    expect(submit(range(3), 1).reason).toBe(null);
  });

  it("keeps published facts equal to the pool under a random load with evictions and aborts", () => {
    const random = seededRandom(7);
    const { time, submit, core, batches } = setUp({ gpuBlocks: 40, waitingRequestsMax: 1000 });
    const handles: RequestHandle[] = [];
    const outcomes: Outcome[] = [];
    for (let i = 0; i < 400; i++) {
      const shared = Math.floor(random.next() * 5) * 1000;
      const prompt = [...range(4 + Math.floor(random.next() * 30), shared), i];
      const outcome = submit(prompt, 1 + Math.floor(random.next() * 12));
      outcomes.push(outcome);
      handles.push(outcome.handle);
      for (let turns = Math.floor(random.next() * 4); turns > 0; turns--) time.next();
      if (random.next() < 0.1) handles[Math.floor(random.next() * handles.length)]?.abort();
      expect(core.pool.freeBlocks).toBeGreaterThanOrEqual(0);
    }
    while (time.next());
    const copies = new Map<bigint, number>();
    const add = (hash: bigint, by: number): void => {
      copies.set(hash, (copies.get(hash) ?? 0) + by);
    };
    for (const fact of batches.flat()) {
      if (fact.kind === "removed") add(fact.chain.hashAt(fact.depth), -1);
      else if (fact.kind === "stored") {
        for (let i = 0; i < fact.blocks; i++) add(fact.chain.hashAt(fact.firstDepth + i), 1);
      }
    }
    for (const { chain, depth } of core.pool.contents()) add(chain.hashAt(depth), -1);
    expect([...copies.values()].filter((count) => count !== 0)).toEqual([]);
    expect(outcomes.every((outcome) => outcome.reason !== null)).toBe(true);
    expect(core.totals.cachedTokens).toBeGreaterThan(0);
    expect(core.pool.freeBlocks).toBe(core.pool.usableBlocks);
  });
});
