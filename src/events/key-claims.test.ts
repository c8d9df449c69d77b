import { expect, it } from "vitest";
import { blockKey } from "../core/ids.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { HandleMap } from "./handle-map.ts";
import { KeyClaims } from "./key-claims.ts";

const PARENT = blockKey(7n);

/** Counts the blocks that it hashes. */
function counting(hasher: BlockHasher): BlockHasher & { readonly hashed: () => number } {
  let hashed = 0;
  const chainKeysInto: BlockHasher["chainKeysInto"] = (input, keys, start) => {
    const blocks = hasher.chainKeysInto(input, keys, start);
    hashed += blocks;
    return blocks;
  };
  return { ...hasher, chainKeysInto, hashed: () => hashed };
}

it("goes on from keys that handles have already, at no more than a hash for each block", async () => {
  const hasher = counting(await createBlockHasher(0));
  const claims = new KeyClaims({ model: "m", hasher, handles: new HandleMap() });
  const blocks = 500;
  const event = (token: number, first: number) => ({
    handles: BigUint64Array.from({ length: blocks }, (_, at) => BigInt(first + at)),
    ...{ tokens: new Uint32Array(blocks).fill(token), blockSizeTokens: 1 },
    ...{ parent: PARENT, extras: null },
  });
  const claim = (token: number, first: number): bigint[] => {
    const claimed = claims.begin("gpu", event(token, first).handles, 1);
    expect(claims.claim(event(token, first), claimed, 0)).toBe(true);
    return [...claimed.keys];
  };
  const known = claim(1, 1);
  const before = hasher.hashed();
  // All of them are known, under the keys of other tokens.
  expect(claim(2, 1)).toEqual(known);
  // The first half is.
  const half = claim(3, 1 + blocks / 2);
  expect(half.slice(0, blocks / 2)).toEqual(known.slice(blocks / 2));
  const behind = hasher.chainKeys({
    parent: blockKey(known.at(-1) ?? 0n),
    ...{ tokens: new Uint32Array(blocks / 2).fill(3), blockSizeTokens: 1 },
  });
  expect(half.slice(blocks / 2)).toEqual([...behind]);
  expect(hasher.hashed() - before).toBeLessThanOrEqual(4 * blocks);
});
