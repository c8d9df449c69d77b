import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BlockChain } from "./block-chain.ts";
import { BlockHasher, type CacheIdentity, PLAIN_IDENTITY } from "./block-hash.ts";
import { BlockPool, type CacheFact } from "./block-pool.ts";

const SIZE = 4;
const hasher = new BlockHasher({ blockSizeTokens: SIZE, seed: "test" });

function chainOf(prompt: readonly number[], identity: CacheIdentity = PLAIN_IDENTITY): BlockChain {
  return new BlockChain(hasher, { identity, prompt: Uint32Array.from(prompt), outputTokensMax: 0 });
}

/** Content of a block as text: what the hash stands for, without any hash. */
function contentName(chain: BlockChain, depth: number): string {
  const { loraName, cacheSalt } = chain.identity;
  return `${loraName}|${cacheSalt}|${chain.tokens(0, (depth + 1) * SIZE).join(",")}`;
}

/** What a reader of the facts believes: copies by content. */
class Replay {
  readonly copies = new Map<string, number>();

  apply(facts: readonly CacheFact[]): void {
    for (const fact of facts) {
      if (fact.kind === "cleared") this.copies.clear();
      else if (fact.kind === "removed") this.#add(contentName(fact.chain, fact.depth), -1);
      else {
        for (let i = 0; i < fact.blocks; i++) {
          this.#add(contentName(fact.chain, fact.firstDepth + i), 1);
        }
      }
    }
  }

  #add(name: string, by: number): void {
    const copies = (this.copies.get(name) ?? 0) + by;
    if (copies < 0) throw new Error(`removed more often than stored: ${name}`);
    if (copies === 0) this.copies.delete(name);
    else this.copies.set(name, copies);
  }
}

/** vLLM's rules once more with plain lists: the free list from oldest to newest, content as text. */
class PlainPool {
  readonly #content: (string | null)[];
  readonly #references: number[];
  readonly #free: number[];
  readonly removed: string[] = [];

  constructor(gpuBlocks: number) {
    this.#content = new Array<string | null>(gpuBlocks).fill(null);
    this.#references = new Array<number>(gpuBlocks).fill(0);
    this.#free = Array.from({ length: gpuBlocks - 1 }, (_, index) => index + 1);
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  hits(names: readonly string[]): number {
    const gap = names.findIndex((name) => !this.#content.includes(name));
    return gap < 0 ? names.length : gap;
  }

  admit(names: readonly string[], hit: readonly number[], newBlocks: number): number[] {
    for (const block of hit) {
      this.#references[block] = (this.#references[block] ?? 0) + 1;
      if (this.#free.includes(block)) this.#free.splice(this.#free.indexOf(block), 1);
    }
    const table = [...hit];
    for (let i = 0; i < newBlocks; i++) {
      const block = this.#free.shift() ?? 0;
      const evicted = this.#content[block];
      if (typeof evicted === "string") this.removed.push(evicted);
      this.#references[block] = 1;
      this.#content[block] = names[table.length] ?? null;
      table.push(block);
    }
    return table;
  }

  release(table: readonly number[]): void {
    for (const block of table.toReversed()) {
      this.#references[block] = (this.#references[block] ?? 0) - 1;
      if (this.#references[block] !== 0) continue;
      if (this.#content[block] === null) this.#free.unshift(block);
      else this.#free.push(block);
    }
  }

  reset(): boolean {
    if (this.#references.some((count) => count > 0)) return false;
    this.#content.fill(null);
    return true;
  }

  copies(): Map<string, number> {
    const copies = new Map<string, number>();
    for (const name of this.#content) {
      if (name !== null) copies.set(name, (copies.get(name) ?? 0) + 1);
    }
    return copies;
  }
}

function copiesOf(pool: BlockPool): Map<string, number> {
  const copies = new Map<string, number>();
  for (const { chain, depth } of pool.contents()) {
    const name = contentName(chain, depth);
    copies.set(name, (copies.get(name) ?? 0) + 1);
  }
  return copies;
}

const salts = fc.constantFrom<CacheIdentity>(PLAIN_IDENTITY, {
  ...PLAIN_IDENTITY,
  cacheSalt: "tenant-a",
});
const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("admit" as const),
      // Few different blocks, so that prefixes are shared.
      prompt: fc.array(fc.constantFrom([1, 1, 1, 1], [2, 2, 2, 2], [3]), {
        minLength: 1,
        maxLength: 6,
      }),
      identity: salts,
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("release" as const), pick: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reset" as const) }) },
);

describe("BlockPool", () => {
  it("hits, evicts and tells the same as the plain model, whatever is done", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const pool = new BlockPool(12);
        const plain = new PlainPool(12);
        const replay = new Replay();
        const active: { readonly table: number[]; readonly plainTable: number[] }[] = [];
        const removed: string[] = [];
        for (const step of operations) {
          if (step.kind === "admit") {
            const chain = chainOf(step.prompt.flat(), step.identity);
            const names = Array.from({ length: chain.fullBlocks }, (_, i) => contentName(chain, i));
            const hit = pool.match(chain);
            const usable = names.slice(0, Math.floor((chain.tokenCount - 1) / SIZE));
            expect(hit.length).toBe(plain.hits(usable));
            const wanted = Math.ceil(chain.tokenCount / SIZE) - hit.length;
            const idle = hit.filter((block) => !pool.isReferenced(block)).length;
            if (pool.freeBlocks - idle < wanted) continue;
            const plainTable = plain.admit(names, hit, wanted);
            pool.reference(hit);
            const table = [...hit];
            for (let i = 0; i < wanted; i++) table.push(pool.take());
            pool.store(chain, table, { firstDepth: hit.length, endDepth: chain.fullBlocks });
            active.push({ table, plainTable });
          } else if (step.kind === "release") {
            const [request] = active.splice(step.pick % Math.max(1, active.length), 1);
            if (request === undefined) continue;
            pool.release(request.table);
            plain.release(request.plainTable);
          } else expect(pool.reset()).toBe(plain.reset());
          const facts = pool.takeFacts();
          replay.apply(facts);
          for (const fact of facts) {
            if (fact.kind === "removed") removed.push(contentName(fact.chain, fact.depth));
          }
          expect(copiesOf(pool)).toEqual(plain.copies());
          expect(replay.copies).toEqual(plain.copies());
          expect(removed).toEqual(plain.removed);
          expect(pool.freeBlocks).toBe(plain.freeBlocks);
          expect(pool.cachedBlocks).toBe(pool.contents().length);
          expect(pool.distinctHashes).toBe(replay.copies.size);
        }
      }),
      { numRuns: 200 },
    );
  });

  it("evicts all copies of a chain that nobody references, tail first, and nothing else", () => {
    const pool = new BlockPool(10);
    const long = chainOf([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
    const table = [pool.take(), pool.take(), pool.take()];
    pool.store(long, table, { firstDepth: 0, endDepth: 3 });
    pool.takeFacts();
    const head = chainOf([1, 1, 1, 1, 2, 2, 2, 2]);
    expect(pool.evictChain(head)).toBe(0);
    pool.release(table);
    expect(pool.evictChain(head)).toBe(2);
    expect(pool.takeFacts()).toMatchObject([
      { kind: "removed", depth: 1 },
      { kind: "removed", depth: 0 },
    ]);
    expect(pool.contents()).toEqual([{ chain: long, depth: 2 }]);
    expect(pool.evictUnreferenced()).toBe(1);
    expect(pool.cachedBlocks).toBe(0);
    expect(pool.freeBlocks).toBe(9);
  });
});

describe("BlockChain", () => {
  it("separates adapters, salts and seeds, and agrees however the tokens arrived", () => {
    const prompt = [1, 2, 3, 4, 5, 6, 7, 8];
    const grown = new BlockChain(hasher, {
      identity: PLAIN_IDENTITY,
      prompt: Uint32Array.from(prompt.slice(0, 3)),
      outputTokensMax: 5,
    });
    for (const token of prompt.slice(3)) grown.append(token);
    const plain = chainOf(prompt);
    expect(grown.hashAt(1)).toBe(plain.hashAt(1));
    const other = new BlockHasher({ blockSizeTokens: SIZE, seed: "other" });
    const hashes = new Set([
      plain.hashAt(1),
      chainOf(prompt, { ...PLAIN_IDENTITY, cacheSalt: "x" }).hashAt(1),
      chainOf(prompt, { ...PLAIN_IDENTITY, loraName: "x", loraId: 1 }).hashAt(1),
      new BlockChain(other, {
        identity: PLAIN_IDENTITY,
        prompt: Uint32Array.from(prompt),
        outputTokensMax: 0,
      }).hashAt(1),
    ]);
    expect(hashes.size).toBe(4);
    const digest = plain.digestAt(1);
    expect(plain.hashAt(1)).toBe(Buffer.from(digest).readBigUInt64BE(24));
  });
});
