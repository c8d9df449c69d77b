/**
 * Events against contents: whoever counts copies by (medium, hash) from the events alone ends with
 * exactly what the engine holds in each tier, for any work that the engine is given.
 */
import { decode } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Clock } from "../../core/clock.ts";
import { BlockChain } from "./block-chain.ts";
import { BlockHasher, PLAIN_IDENTITY } from "./block-hash.ts";
import { CacheTiers } from "./cache-tiers.ts";
import { EngineCore, type RequestHandle } from "./engine-core.ts";
import { LAB_ENGINE_DEFAULTS, type LabEngineOptions } from "./engine-options.ts";
import { EventEncoder } from "./event-encoding.ts";

const SIZE = 4;
const hasher = new BlockHasher({ blockSizeTokens: SIZE, seed: "tiers" });
const CLOCK: Clock = { nowMs: () => 0, wallMs: () => 0, after: () => () => {} };
const MEDIA = { gpu: "GPU", cpu: "CPU", nvme: "STORAGE" } as const;

/** An engine without sockets, and a reader of what it publishes. */
class Harness {
  readonly core: EngineCore;
  readonly tiers: CacheTiers;
  readonly handles: RequestHandle[] = [];
  readonly #turns: (() => void)[] = [];
  readonly #copies = new Map<string, number>();
  /** For every reset that is not published: were the lower tiers emptied? */
  readonly #resets: boolean[] = [];

  constructor(partial: Partial<LabEngineOptions>) {
    const options = { ...LAB_ENGINE_DEFAULTS, chunkTokens: 12, timeScale: 0, ...partial };
    const encoder = new EventEncoder(options, options);
    this.tiers = new CacheTiers(options);
    this.core = new EngineCore(options, {
      clock: CLOCK,
      nextTurn: (callback) => this.#turns.push(callback),
      tiers: this.tiers,
      publish: (facts) => {
        const batch = decode(encoder.batch(1.5, facts), { useBigInt64: true });
        for (const event of (batch as [number, unknown[]])[1]) this.#apply(event);
      },
    });
  }

  submit(prompt: readonly number[], outputTokens: number): RequestHandle | null {
    const handle = this.core.submit({
      chain: new BlockChain(hasher, {
        identity: PLAIN_IDENTITY,
        prompt: Uint32Array.from(prompt),
        outputTokensMax: outputTokens,
      }),
      outputTokens,
      listener: { finish: () => {} },
    });
    if (typeof handle === "string") return null;
    this.handles.push(handle);
    return handle;
  }

  turn(): boolean {
    const turn = this.#turns.shift();
    turn?.();
    return turn !== undefined;
  }

  run(): void {
    while (this.turn());
  }

  reset(areTiersReset: boolean): boolean {
    const isDone = this.core.reset({ areTiersReset });
    if (isDone) this.#resets.push(areTiersReset);
    return isDone;
  }

  /** Contents by the engine itself. */
  truth(): string[] {
    return [
      ...this.core.pool.contents().map((content) => ({ ...content, tier: "gpu" as const })),
      ...this.tiers.contents(),
    ]
      .map(({ chain, depth, tier }) => `${MEDIA[tier]} ${chain.hashAt(depth)}`)
      .sort();
  }

  /** Contents by the events. */
  told(): string[] {
    return [...this.#copies].flatMap(([name, count]) => new Array<string>(count).fill(name)).sort();
  }

  /** The longest prefix below the whole prompt: in the GPU, then in any lower tier. */
  holdsTokens(prompt: readonly number[]): number {
    const held = new Set(this.truth());
    const chain = new BlockChain(hasher, {
      identity: PLAIN_IDENTITY,
      prompt: Uint32Array.from(prompt),
      outputTokensMax: 0,
    });
    const end = Math.floor((prompt.length - 1) / SIZE);
    let depth = 0;
    while (depth < end && held.has(`GPU ${chain.hashAt(depth)}`)) depth++;
    const isBelow = (): boolean =>
      held.has(`CPU ${chain.hashAt(depth)}`) || held.has(`STORAGE ${chain.hashAt(depth)}`);
    while (depth < end && isBelow()) depth++;
    return depth * SIZE;
  }

  #apply(event: unknown): void {
    const [tag, hashes, ...rest] = Object.values(event as object) as [
      string,
      unknown[],
      ...unknown[],
    ];
    if (tag === "AllBlocksCleared") {
      const areTiersReset = this.#resets.shift();
      for (const name of [...this.#copies.keys()]) {
        if (areTiersReset === true || name.startsWith("GPU ")) this.#copies.delete(name);
      }
      return;
    }
    const medium = tag === "BlockStored" ? rest[4] : rest[0];
    for (const hash of hashes) this.#count(`${medium} ${low64(hash)}`, tag === "BlockStored");
  }

  #count(name: string, isStored: boolean): void {
    const count = (this.#copies.get(name) ?? 0) + (isStored ? 1 : -1);
    if (count < 0) throw new Error(`removed more often than stored: ${name}`);
    if (count === 0) this.#copies.delete(name);
    else this.#copies.set(name, count);
  }
}

function low64(hash: unknown): bigint {
  return hash instanceof Uint8Array ? Buffer.from(hash).readBigUInt64BE(24) : BigInt(String(hash));
}

const block = fc.integer({ min: 0, max: 3 }).map((value) => [value, value, value, value]);
const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("submit" as const),
      blocks: fc.array(block, { minLength: 1, maxLength: 6 }),
      tail: fc.integer({ min: 0, max: 3 }),
      outputTokens: fc.integer({ min: 1, max: 9 }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("turns" as const), count: fc.nat(6) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("run" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("abort" as const), pick: fc.nat(50) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reset" as const), all: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("evict" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("check" as const) }) },
);
const options = fc.record({
  gpuBlocks: fc.integer({ min: 6, max: 16 }),
  tiers: fc.record({ cpuBlocks: fc.nat(6), nvmeBlocks: fc.nat(6) }),
  offloadWhen: fc.constantFrom("evicted" as const, "stored" as const),
  offloadEvents: fc.constantFrom("placeholder" as const, "self_describing" as const),
  offloadHashForm: fc.constantFrom("u64" as const, "bytes" as const),
  encoding: fc.constantFrom("array" as const, "map" as const),
  hashForm: fc.constantFrom("u64" as const, "bytes" as const),
});

describe("events of an engine with tiers", () => {
  it("count to its contents in every tier, whatever it does", () => {
    fc.assert(
      fc.property(options, fc.array(operation, { maxLength: 60 }), (engine, operations) => {
        const harness = new Harness(engine);
        for (const step of [...operations, { kind: "run" as const }, { kind: "check" as const }]) {
          if (step.kind === "submit") {
            const tail = new Array<number>(step.tail).fill(9);
            harness.submit([...step.blocks.flat(), ...tail], step.outputTokens);
          } else if (step.kind === "turns") {
            for (let turns = step.count; turns > 0; turns--) harness.turn();
          } else if (step.kind === "run") harness.run();
          else if (step.kind === "abort") {
            harness.handles[step.pick % Math.max(1, harness.handles.length)]?.abort();
          } else if (step.kind === "reset") {
            if (!harness.reset(step.all) || !step.all) continue;
            // What an aborted step evicted must not come back.
            harness.core.flushFacts();
            expect([harness.truth(), harness.told()]).toEqual([[], []]);
          } else if (step.kind === "evict") harness.core.pool.evictUnreferenced();
          else {
            harness.core.flushFacts();
            expect(harness.told()).toEqual(harness.truth());
            const { cpuBlocks, nvmeBlocks } = engine.tiers;
            expect(harness.tiers.blocks("cpu")).toBeLessThanOrEqual(cpuBlocks);
            expect(harness.tiers.blocks("nvme")).toBeLessThanOrEqual(nvmeBlocks);
          }
        }
        expect(harness.core.pool.freeBlocks).toBe(harness.core.pool.usableBlocks);
      }),
      { numRuns: 300 },
    );
  });

  it("come from hits that go on in the lower tiers as far as these hold the prompt", () => {
    fc.assert(
      fc.property(
        options,
        fc.array(fc.array(block, { minLength: 1, maxLength: 5 }), { maxLength: 12 }),
        (engine, prompts) => {
          const harness = new Harness(engine);
          for (const blocks of prompts) {
            const prompt = blocks.flat();
            const held = harness.holdsTokens(prompt);
            const handle = harness.submit(prompt, 1);
            harness.run();
            if (handle !== null) expect(handle.cachedTokens()).toBe(held);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("tiers below the GPU", () => {
  const prompt = (seed: number): number[] => Array.from({ length: 13 }, (_, i) => seed * 100 + i);

  it("take what the GPU drops, hand it down, and give it back as ordinary stores", () => {
    const harness = new Harness({ gpuBlocks: 5, tiers: { cpuBlocks: 2, nvmeBlocks: 2 } });
    const submit = (seed: number): RequestHandle | null => {
      const handle = harness.submit(prompt(seed), 1);
      harness.run();
      return handle;
    };
    submit(1);
    submit(2);
    // Three blocks of the first prompt left the GPU, tail first: the tail is in NVMe.
    expect([harness.tiers.blocks("cpu"), harness.tiers.blocks("nvme")]).toEqual([2, 1]);
    expect(submit(1)?.cachedTokens()).toBe(12);
    expect(harness.core.totals).toMatchObject({ cachedTokens: 12, loadedTokens: 12 });
    expect(harness.told().filter((name) => name.startsWith("GPU ")).length).toBe(3);
    expect(harness.told()).toEqual(harness.truth());
  });

  it("outlive a reset of the GPU unless the connector is reset as well", () => {
    const harness = new Harness({ tiers: { cpuBlocks: 8, nvmeBlocks: 0 }, offloadWhen: "stored" });
    harness.submit(prompt(1), 1);
    harness.run();
    expect(harness.reset(false)).toBe(true);
    expect(harness.tiers.blocks("cpu")).toBe(3);
    const again = harness.submit(prompt(1), 1);
    harness.run();
    expect(again?.cachedTokens()).toBe(12);
    expect(harness.reset(true)).toBe(true);
    expect(harness.truth()).toEqual([]);
    const cold = harness.submit(prompt(1), 1);
    harness.run();
    expect(cold?.cachedTokens()).toBe(0);
    expect(harness.told()).toEqual(harness.truth());
  });

  it("do not get back what an aborted step evicted before they were reset", () => {
    const harness = new Harness({ gpuBlocks: 5, tiers: { cpuBlocks: 4, nvmeBlocks: 0 } });
    harness.submit(prompt(1), 1);
    harness.run();
    const cut = harness.submit(prompt(2), 1);
    harness.turn();
    cut?.abort();
    expect(harness.reset(true)).toBe(true);
    harness.core.flushFacts();
    expect([harness.truth(), harness.told()]).toEqual([[], []]);
  });

  it("cost the stated time per byte to load from", () => {
    const tiers = new CacheTiers({
      tiers: { cpuBlocks: 1, nvmeBlocks: 4 },
      offloadWhen: "stored",
      kvBytesPerToken: 1000,
      cpuLoadSecondsPerByte: 1e-6,
      nvmeLoadSecondsPerByte: 1e-5,
    });
    const chain = new BlockChain(hasher, {
      identity: PLAIN_IDENTITY,
      prompt: Uint32Array.from(prompt(1)),
      outputTokensMax: 0,
    });
    tiers.observe([{ kind: "stored", chain, firstDepth: 0, blocks: 3 }]);
    const found = tiers.match(chain, { firstDepth: 0, endDepth: 3 });
    expect(found).toEqual(["cpu", "nvme", "nvme"]);
    expect(tiers.load(chain, 0, found)).toBeCloseTo(SIZE * 1000 * (1e-6 + 2e-5));
  });
});
