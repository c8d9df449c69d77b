/** The plain ways that rows are compared with: a streaming hash per block, a set per endpoint. */
import xxhash from "xxhash-wasm";
import { BLOCK } from "./workload.ts";

export async function naiveHasher(): Promise<(parent: bigint, tokens: Uint32Array) => bigint[]> {
  const { create64 } = await xxhash();
  return (parent, tokens) => {
    const keys: bigint[] = [];
    let key = parent;
    for (let start = 0; start < tokens.length; start += BLOCK) {
      const bytes = new Uint8Array(BLOCK * 4 + 8);
      bytes.set(new Uint8Array(tokens.slice(start, start + BLOCK).buffer));
      new DataView(bytes.buffer).setBigUint64(BLOCK * 4, key, true);
      key = create64(0n).update(bytes).digest();
      keys.push(key);
    }
    return keys;
  };
}

/** Leading keys that each endpoint's set has. */
export function naiveMatch(
  sets: readonly ReadonlySet<bigint>[],
  keys: ArrayLike<bigint>,
): number[] {
  return sets.map((held) => {
    let depth = 0;
    while (depth < keys.length && held.has(keys[depth] ?? 0n)) depth += 1;
    return depth;
  });
}
