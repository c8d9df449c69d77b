import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import xxhash from "xxhash-wasm";
import { type BlockHasher, createBlockHasher } from "./block-hasher.ts";
import { extraText, saltExtras } from "./extra-keys.ts";

let hasher: BlockHasher;
let h64: (input: Uint8Array, seed?: bigint) => bigint;
const base = { model: "m", lora: null, blockSizeTokens: 4 };

beforeAll(async () => {
  hasher = await createBlockHasher(7);
  h64 = (await xxhash()).h64Raw;
});

/** One block by the definition, written out with a DataView instead of typed-array copies. */
function keyByDefinition(tokens: readonly number[], parent: bigint): bigint {
  const bytes = new DataView(new ArrayBuffer(tokens.length * 4 + 8));
  tokens.forEach((token, position) => {
    bytes.setUint32(position * 4, token, true);
  });
  bytes.setBigUint64(tokens.length * 4, parent, true);
  return h64(new Uint8Array(bytes.buffer), 7n);
}

describe("block keys", () => {
  it("are XXH64 of the tokens followed by the parent's key", () => {
    const tokenArb = fc.array(fc.integer({ min: 0, max: 0xffff_ffff }), { maxLength: 30 });
    fc.assert(
      fc.property(tokenArb, fc.integer({ min: 1, max: 9 }), (tokens, blockSizeTokens) => {
        const parent = hasher.rootKey({ ...base, blockSizeTokens });
        const keys = hasher.chainKeys({
          parent,
          tokens: Uint32Array.from(tokens),
          blockSizeTokens,
        });
        const expected: bigint[] = [];
        for (let end = blockSizeTokens; end <= tokens.length; end += blockSizeTokens) {
          const block = tokens.slice(end - blockSizeTokens, end);
          expected.push(keyByDefinition(block, expected.at(-1) ?? parent));
        }
        expect([...keys]).toEqual(expected);
      }),
    );
  });

  it("are the same whether a chain is hashed at once or continued from its parent", () => {
    const tokens = Uint32Array.from({ length: 32 }, (_, position) => position);
    const parent = hasher.rootKey(base);
    const whole = hasher.chainKeys({ parent, tokens, blockSizeTokens: 4 });
    const head = hasher.chainKeys({ parent, tokens: tokens.subarray(0, 12), blockSizeTokens: 4 });
    const tail = hasher.chainKeys({
      parent: (head.at(-1) ?? 0n) as typeof parent,
      tokens: tokens.subarray(12),
      blockSizeTokens: 4,
    });
    expect([...head, ...tail]).toEqual([...whole]);
  });

  it("never meet across model, adapter, block size, salt or seed", async () => {
    const other = await createBlockHasher(8);
    const tokens = Uint32Array.from([1, 2, 3, 4]);
    const keyIn = (h: BlockHasher, namespace: typeof base | { lora: string }, salt?: string) =>
      h.chainKeys({
        parent: h.rootKey({ ...base, ...namespace }),
        tokens,
        blockSizeTokens: 4,
        extras: [extraText(saltExtras(salt ?? null))],
      })[0];
    const keys = [
      keyIn(hasher, base),
      keyIn(hasher, { ...base, model: "n" }),
      keyIn(hasher, { lora: "a" }),
      keyIn(hasher, { ...base, blockSizeTokens: 8 }),
      keyIn(hasher, base, "tenant"),
      keyIn(other, base),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });

  it("carry a salt on the first block through the whole chain", () => {
    const tokens = Uint32Array.from({ length: 8 }, (_, position) => position);
    const parent = hasher.rootKey(base);
    const plain = hasher.chainKeys({ parent, tokens, blockSizeTokens: 4 });
    const salted = hasher.chainKeys({
      parent,
      tokens,
      blockSizeTokens: 4,
      extras: [extraText(["s"])],
    });
    expect(salted[0]).not.toBe(plain[0]);
    expect(salted[1]).not.toBe(plain[1]);
  });
});
