import { describe, expect, it } from "vitest";
import { BlockChain } from "./block-chain.ts";
import { BlockHasher } from "./block-hash.ts";
import type { TierFact } from "./engine-facts.ts";
import { eventFields } from "./event-fields.ts";
import { OFFLOAD_DEFAULTS, type OffloadOptions, offloadEvents } from "./offload-fields.ts";

const chain = new BlockChain(new BlockHasher({ blockSizeTokens: 2, seed: "test" }), {
  identity: { loraName: "sql", loraId: 2, cacheSalt: "tenant-a" },
  prompt: Uint32Array.from([10, 11, 12, 13]),
  outputTokensMax: 0,
});
const blocks = [
  { chain, depth: 0 },
  { chain, depth: 1 },
];
const STORED: TierFact = { kind: "tier_stored", tier: "cpu", blocks };
const REMOVED: TierFact = { kind: "tier_removed", tier: "nvme", blocks };

function wire(
  fact: TierFact,
  encoding: "array" | "map",
  options: Partial<OffloadOptions> = {},
): unknown[] {
  return offloadEvents(fact, { ...OFFLOAD_DEFAULTS, ...options }).map(({ tag, fields }) =>
    eventFields(tag, fields, { encoding, hasExtraField: false }),
  );
}

describe("offload events", () => {
  it("of vLLM 0.23: raw digests of all blocks in one event, without group", () => {
    const raw = { offloadHashForm: "bytes" } as const;
    const stored = wire(STORED, "array", raw) as [[string, Uint8Array[], ...unknown[]]];
    expect(stored).toHaveLength(1);
    const [tag, hashes, ...rest] = stored[0];
    expect([tag, ...rest]).toEqual(["BlockStored", null, [], 0, null, "CPU", null]);
    expect(hashes.map((hash) => hash.length)).toEqual([32, 32]);
    expect(wire(REMOVED, "array", raw)).toEqual([
      ["BlockRemoved", [chain.digestAt(0), chain.digestAt(1)], "STORAGE"],
    ]);
  });

  it("of later versions: one event per block, in no order of the prefix", () => {
    const events = wire(STORED, "map") as { block_hashes: bigint[] }[];
    const hashes = [chain.hashAt(0), chain.hashAt(1)].sort((a, b) => (a < b ? -1 : 1));
    expect(events).toEqual(
      hashes.map((hash) => ({
        type: "BlockStored",
        block_hashes: [hash],
        parent_block_hash: null,
        token_ids: [],
        block_size: 0,
        lora_id: null,
        medium: "CPU",
        lora_name: null,
        group_idx: 0,
      })),
    );
  });

  it("that describe themselves carry all but the extra keys", () => {
    const described = wire(STORED, "map", { offloadEvents: "self_describing" });
    expect(described).toContainEqual({
      type: "BlockStored",
      block_hashes: [chain.hashAt(1)],
      parent_block_hash: chain.hashAt(0),
      token_ids: [12, 13],
      block_size: 2,
      lora_id: 2,
      medium: "CPU",
      lora_name: "sql",
      group_idx: 0,
      kv_cache_spec_kind: "full_attention",
    });
  });

  it("name the NVMe tier as the version does, and remove a step's blocks in one event", () => {
    expect(wire(REMOVED, "map", { nvmeMedium: "FS" })).toEqual([
      {
        type: "BlockRemoved",
        block_hashes: [chain.hashAt(0), chain.hashAt(1)],
        medium: "FS",
        group_idx: 0,
      },
    ]);
  });
});
