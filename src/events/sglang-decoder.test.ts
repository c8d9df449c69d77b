import { describe, expect, it } from "vitest";
import { msgpackPayload } from "../../test/harness/event-samples.ts";
import { goldenNames, handleOf, loadCapture, loadMessages } from "../../test/harness/golden.ts";
import { madeBatch } from "../../test/harness/made-batch.ts";
import type { KvEvent, KvEventBatch } from "./kv-event.ts";
import { decodeSglangBatch } from "./sglang-decoder.ts";

const BIGRAM = "sglang-0.5.23/m_bigram_eagle";
const names = goldenNames("sglang").filter((name) => name !== BIGRAM);

function decode(payload: Uint8Array): KvEventBatch {
  const decoded = decodeSglangBatch(payload);
  if (!decoded.ok) throw new Error(`${decoded.reason}: ${decoded.detail}`);
  return madeBatch(decoded.value);
}

function decodeEvents(...events: unknown[]): readonly KvEvent[] {
  return decode(msgpackPayload([1.5, events, 0])).events;
}

describe("captures of real engines", () => {
  it.each(names)("%s decodes to what the engine's own decoder says", (name) => {
    const { messages, expected } = loadCapture(name);
    expect(messages.length).toBeGreaterThan(0);
    const batches = expected.batches.map((batch) => ({
      ts: batch.ts,
      rank: batch.attn_dp_rank ?? null,
      events: batch.events.map((event): unknown => {
        const handles = BigUint64Array.from(event.block_hashes ?? [], handleOf);
        const medium = event.medium ?? null;
        if (event.type === "AllBlocksCleared") return { type: "cleared" };
        if (event.type === "BlockRemoved") return { type: "removed", handles, medium, group: null };
        const parent = event.parent_block_hash ?? null;
        const salt = event.cache_salt ?? null;
        return {
          type: "stored",
          handles,
          parent: parent === null ? null : handleOf(parent),
          tokens: Uint32Array.from(event.token_ids ?? []),
          blockSizeTokens: event.block_size,
          medium,
          loraName: event.lora_name ?? null,
          loraId: event.lora_id ?? null,
          extraKeys: null,
          ...(salt === null ? {} : { cacheSalt: salt }),
          group: null,
          specKind: null,
        };
      }),
    }));
    expect(messages.map(({ payload }) => decode(payload))).toEqual(batches);
  });

  it("begin each life with a clear, and cover pages of 1, salts and three lower media", () => {
    const events = names.flatMap((name) =>
      loadMessages(name).flatMap(({ payload }) => decode(payload).events),
    );
    const stored = events.filter((event) => event.type === "stored");
    for (const name of names) {
      expect(decode(loadMessages(name)[0]?.payload ?? new Uint8Array()).events[0]?.type).toBe(
        "cleared",
      );
    }
    expect(new Set(stored.map(({ medium }) => medium))).toEqual(
      new Set(["GPU", "CPU_PINNED", "DISK", "EXTERNAL"]),
    );
    expect(stored.some(({ blockSizeTokens }) => blockSizeTokens === 1)).toBe(true);
    expect(stored.some(({ cacheSalt }) => cacheSalt === "tenant-a")).toBe(true);
  });
});

describe("EAGLE's pairs", () => {
  it("come out as the prompt's tokens, marked", () => {
    const stored = loadMessages(BIGRAM)
      .flatMap(({ payload }) => decode(payload).events)
      .filter((event) => event.type === "stored");
    const plain = loadCapture("sglang-0.5.23/e_cache_salt_extra_key").expected.requests;
    expect(stored.length).toBeGreaterThan(0);
    for (const { caveat, tokens, handles, blockSizeTokens } of stored) {
      expect(caveat).toBe("token-pairs");
      expect(tokens.length).toBe(handles.length * blockSizeTokens);
    }
    // The same prompt as another scenario's, so its tokens are known.
    const prompt = plain?.[0]?.prompt_token_ids;
    if (prompt !== undefined) expect([...(stored[0]?.tokens ?? [])]).toEqual(prompt.slice(0, 64));
  });

  it("mixed with plain tokens are malformed", () => {
    const event = ["BlockStored", [1n], null, [[1, 2], 3], 2, null, "GPU"];
    expect(decodeEvents(event)).toEqual([{ type: "skipped", reason: "malformed-event" }]);
  });
});

describe("events", () => {
  it("of 0.5.9 are arrays, one per page", () => {
    const stored = ["BlockStored", [-1n], null, [7], 1, null, "CPU_PINNED"];
    expect(
      decodeEvents(["AllBlocksCleared"], stored, ["BlockRemoved", [-1n], "GPU"]),
    ).toMatchObject([
      { type: "cleared" },
      {
        type: "stored",
        handles: BigUint64Array.of(2n ** 64n - 1n),
        blockSizeTokens: 1,
        medium: "CPU_PINNED",
      },
      { type: "removed", handles: BigUint64Array.of(2n ** 64n - 1n), medium: "GPU" },
    ]);
  });

  it("tell the prompt's salt, of which an empty one is none", () => {
    const stored = (salt: unknown): unknown => ({
      type: "BlockStored",
      block_hashes: [1n, 2n],
      parent_block_hash: null,
      token_ids: [1, 2],
      block_size: 1,
      lora_id: null,
      cache_salt: salt,
      session_id: "any",
    });
    const events = decodeEvents(stored("tenant"), stored(""), stored(null), stored(7));
    expect(events).toMatchObject([
      { cacheSalt: "tenant", extraKeys: null },
      { type: "stored" },
      { type: "stored" },
      { type: "skipped", reason: "malformed-event" },
    ]);
    for (const event of events.slice(1)) expect(event).not.toHaveProperty("cacheSalt");
  });
});
