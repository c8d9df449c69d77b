import { decode } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import { BlockChain } from "./block-chain.ts";
import { BlockHasher, type CacheIdentity } from "./block-hash.ts";
import type { CacheFact } from "./block-pool.ts";
import { EventEncoder, type EventEncoderOptions } from "./event-encoding.ts";

const identity: CacheIdentity = { loraName: "sql", loraId: 2, cacheSalt: "tenant-a" };
const chain = new BlockChain(new BlockHasher({ blockSizeTokens: 2, seed: "test" }), {
  identity,
  prompt: Uint32Array.from([10, 11, 12, 13, 14, 15]),
  outputTokensMax: 0,
});
const FACTS: readonly CacheFact[] = [
  { kind: "cleared" },
  { kind: "stored", chain, firstDepth: 0, blocks: 2 },
  { kind: "stored", chain, firstDepth: 2, blocks: 1 },
  { kind: "removed", chain, depth: 1 },
];

function encode(options: Partial<EventEncoderOptions>): { raw: Uint8Array; decoded: unknown } {
  const encoder = new EventEncoder({
    encoding: "map",
    hashForm: "u64",
    dataParallelRank: 3,
    ...options,
  });
  const raw = encoder.batch(1_700_000_000, FACTS);
  return { raw, decoded: decode(raw, { useBigInt64: true }) };
}

describe("EventEncoder", () => {
  it("writes maps as vLLM 0.24 and later do", () => {
    const { raw, decoded } = encode({ encoding: "map" });
    // The time is a float64 although it is a whole number, as a Python float is.
    expect([...raw.subarray(0, 2)]).toEqual([0x93, 0xcb]);
    const common = { block_size: 2, lora_id: 2, medium: "GPU", lora_name: "sql" };
    const group = { group_idx: 0, kv_cache_spec_kind: "full_attention" };
    expect(decoded).toEqual([
      1_700_000_000,
      [
        { type: "AllBlocksCleared" },
        {
          type: "BlockStored",
          block_hashes: [chain.hashAt(0), chain.hashAt(1)],
          parent_block_hash: null,
          token_ids: [10, 11, 12, 13],
          ...common,
          extra_keys: [["sql", "tenant-a"], ["sql"]],
          ...group,
        },
        {
          type: "BlockStored",
          block_hashes: [chain.hashAt(2)],
          parent_block_hash: chain.hashAt(1),
          token_ids: [14, 15],
          ...common,
          extra_keys: [["sql"]],
          ...group,
        },
        {
          type: "BlockRemoved",
          block_hashes: [chain.hashAt(1)],
          medium: "GPU",
          group_idx: 0,
        },
      ],
      3,
    ]);
  });

  it("writes arrays with the fields of vLLM 0.22", () => {
    const { decoded } = encode({ encoding: "array" });
    const kind = "full_attention";
    const [h0, h1, h2] = [chain.hashAt(0), chain.hashAt(1), chain.hashAt(2)];
    const keys = [["sql", "tenant-a"], ["sql"]];
    expect(decoded).toEqual([
      1_700_000_000,
      [
        ["AllBlocksCleared"],
        ["BlockStored", [h0, h1], null, [10, 11, 12, 13], 2, 2, "GPU", "sql", keys, 0, kind],
        ["BlockStored", [h2], h1, [14, 15], 2, 2, "GPU", "sql", [["sql"]], 0, kind],
        ["BlockRemoved", [h1], "GPU", 0],
      ],
      3,
    ]);
  });

  it("writes raw digests on request", () => {
    const { decoded } = encode({ encoding: "array", hashForm: "bytes" });
    const digest = Uint8Array.from(chain.digestAt(1));
    expect(decoded).toMatchObject([1_700_000_000, { 3: ["BlockRemoved", [digest], "GPU", 0] }, 3]);
  });
});
