import fc from "fast-check";
import { describe, expect, it } from "vitest";
import xxhash from "xxhash-wasm";
import { silentLog } from "../core/log.ts";
import { type BlockHasher, blockHasherOf, createBlockHasher } from "./block-hasher.ts";
import { CORE_KEYS_MAX, CORE_TOKENS_MAX, wasmChainCore, xxhashChainCore } from "./chain-core.ts";
import { extraText, saltExtras } from "./extra-keys.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "./namespace.ts";

const api = await xxhash();
const { h64Raw } = api;
const base = { model: "m", lora: null, blockSizeTokens: 4 };

/** Both ways of making keys have to make the same. */
const hashers: [string, (seed: bigint) => BlockHasher][] = [
  ["our WebAssembly", (seed) => blockHasherOf(api, seed, wasmChainCore(seed))],
  ["xxhash-wasm", (seed) => blockHasherOf(api, seed, xxhashChainCore(api, seed))],
];

/** One block by the definition, written out with a DataView instead of typed-array copies. */
function keyByDefinition(tokens: readonly number[], parent: bigint): bigint {
  const bytes = new DataView(new ArrayBuffer(tokens.length * 4 + 8));
  tokens.forEach((token, position) => {
    bytes.setUint32(position * 4, token, true);
  });
  bytes.setBigUint64(tokens.length * 4, parent, true);
  return h64Raw(new Uint8Array(bytes.buffer), 7n);
}

function chainByDefinition(
  tokens: readonly number[],
  blockSizeTokens: number,
  parent: bigint,
  extras: readonly (string | null)[],
): bigint[] {
  const keys: bigint[] = [];
  for (let end = blockSizeTokens; end <= tokens.length; end += blockSizeTokens) {
    const before = keys.at(-1) ?? parent;
    const extra = extras[keys.length] ?? null;
    const folded = extra === null ? before : h64Raw(new TextEncoder().encode(extra), before);
    keys.push(keyByDefinition(tokens.slice(end - blockSizeTokens, end), folded));
  }
  return keys;
}

function bytesOf(keys: BigUint64Array = new BigUint64Array(0)): Uint8Array {
  return new Uint8Array(keys.buffer, keys.byteOffset, keys.byteLength);
}

describe.each(hashers)("block keys by %s", (_, createHasher) => {
  const hasher = createHasher(7n);

  it("are XXH64 of the tokens followed by the parent's key, with extras folded into it", () => {
    const tokenArb = fc.array(fc.integer({ min: 0, max: 0xffff_ffff }), { maxLength: 200 });
    const extrasArb = fc.array(fc.option(fc.string()), { maxLength: 30 });
    fc.assert(
      fc.property(
        tokenArb,
        fc.integer({ min: 1, max: 40 }),
        extrasArb,
        (tokens, blockSizeTokens, extras) => {
          const parent = hasher.rootKey({ ...base, blockSizeTokens });
          const input = { parent, tokens: Uint32Array.from(tokens), blockSizeTokens, extras };
          expect([...hasher.chainKeys(input)]).toEqual(
            chainByDefinition(tokens, blockSizeTokens, parent, extras),
          );
        },
      ),
    );
  });

  it.each([1, 7, 16, 64, 256, BLOCK_SIZE_TOKENS_MAX])(
    "go on from chunk to chunk of a long prompt, in blocks of %i tokens",
    (blockSizeTokens) => {
      const tokens = Array.from({ length: 3 * CORE_TOKENS_MAX + 17 }, (_, i) => (i * 40_503) >>> 3);
      const parent = hasher.rootKey({ ...base, blockSizeTokens });
      const keys = new BigUint64Array(tokens.length + 2);
      const input = { parent, tokens: Uint32Array.from(tokens), blockSizeTokens };
      const blocks = hasher.chainKeysInto(input, keys, 2);
      expect([...keys.subarray(2, 2 + blocks)]).toEqual(
        chainByDefinition(tokens, blockSizeTokens, parent, []),
      );
      expect(keys[1]).toBe(0n);
      expect(keys.subarray(2 + blocks).every((key) => key === 0n)).toBe(true);
    },
  );

  it("are the same as passing keys, which last until they are reused, as many as there are", () => {
    const lengths = fc.array(fc.constantFrom(0, 3, 160, 5000, CORE_KEYS_MAX), { maxLength: 8 });
    const parent = hasher.rootKey({ ...base, blockSizeTokens: 1 });
    fc.assert(
      fc.property(lengths, (drawn) => {
        hasher.reuse();
        const inputs = drawn.map((length, at) => {
          const tokens = Uint32Array.from({ length }, (_, token) => 7 * at + token);
          return { parent, tokens, blockSizeTokens: 1 };
        });
        const passing = inputs.map((input) => hasher.passingKeys(input));
        const own = inputs.map((input) => hasher.chainKeys(input));
        expect(passing.map((keys, at) => Buffer.compare(bytesOf(keys), bytesOf(own[at])))).toEqual(
          drawn.map(() => 0),
        );
      }),
      { numRuns: 20 },
    );
    hasher.reuse();
    const input = { parent, tokens: Uint32Array.of(1, 2, 3), blockSizeTokens: 1 };
    const first = hasher.passingKeys(input);
    hasher.reuse();
    expect(hasher.passingKeys(input)).toEqual(first);
    expect(hasher.passingKeys(input).buffer).toBe(first.buffer);
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

  it("never meet across model, adapter, block size, salt or seed", () => {
    const other = createHasher(8n);
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

it("are made by our WebAssembly in a checkout", async () => {
  const warnings: string[] = [];
  await createBlockHasher(0, { ...silentLog, warn: (_, message) => void warnings.push(message) });
  expect(warnings).toEqual([]);
});
