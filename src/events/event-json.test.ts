import { Encoder } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import { type GoldenEvent, goldenNames, handleOf, loadCapture } from "../../test/harness/golden.ts";
import { captureLine, jsonLine, parseCaptureLine } from "./capture.ts";
import { messageJson } from "./event-json.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";
import { MESSAGE_BYTES_MAX } from "./zmq-subscriber.ts";

const encoder = new Encoder({ useBigInt64: true });
const TIER_OF_MEDIUM = new Map([
  ["GPU", "gpu"],
  ["CPU", "cpu"],
  ["CPU_PINNED", "cpu"],
  ["DISK", "nvme"],
  ["EXTERNAL", "shared"],
]);

/** The printed form of an event, from what the engine's own decoder says of it. */
function printed(event: GoldenEvent): object {
  const blockHashes = event.block_hashes?.map((hash) => handleOf(hash).toString());
  const medium = event.medium ?? null;
  const tier = medium === null ? "gpu" : TIER_OF_MEDIUM.get(medium);
  const group = event.group_idx ?? null;
  if (event.type === "AllBlocksCleared") return { type: "cleared" };
  if (event.type === "BlockRemoved") return { type: "removed", blockHashes, tier, group };
  const parent = event.parent_block_hash ?? null;
  return {
    type: "stored",
    blockHashes,
    parentHash: parent === null ? null : handleOf(parent).toString(),
    tokenIds: event.token_ids,
    blockSize: event.block_size,
    tier,
    medium,
    loraName: event.lora_name ?? null,
    loraId: event.lora_id ?? null,
    group,
    extraKeys: event.extra_keys ?? null,
  };
}

describe("events decode", () => {
  const isExpected = (name: string): boolean => !name.endsWith("/m_bigram_eagle");
  const names = [...goldenNames("vllm"), ...goldenNames("sglang")].filter(isExpected);

  it.each(names)("prints %s as the engine decodes it", (name) => {
    const { messages, expected } = loadCapture(name);
    for (const [position, { seq, payload }] of messages.entries()) {
      const batch = expected.batches[position];
      const line = JSON.parse(JSON.stringify(messageJson(seq, decodeVllmBatch(payload))));
      expect(line).toEqual({
        seq,
        ts: batch?.ts,
        rank: batch?.data_parallel_rank ?? batch?.attn_dp_rank ?? null,
        events: batch?.events.map(printed),
      });
    }
  });

  it("prints integers above 2^53 as strings, wherever they stand", () => {
    const stored = (id: bigint): unknown[] => {
      return ["BlockStored", [1n], null, [7], 1, id, null, null, [[id, [id]]]];
    };
    const printed = [2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n].map((id) => {
      return messageJson(0, decodeVllmBatch(encoder.encode([0.5, [stored(id)], 0])));
    });
    const expected = [9_007_199_254_740_992, "9007199254740993", "18446744073709551615"];
    expect(printed).toMatchObject(
      expected.map((id) => ({ events: [{ loraId: id, extraKeys: [[id, [id]]] }] })),
    );
  });

  it("prints stores as they were sent, also with numbers that no index takes", () => {
    const stored = (tokens: unknown, size: unknown): unknown[] => {
      return ["BlockStored", [1n], 2n, tokens, size, null, "Cpu"];
    };
    const told = [stored([-1, 2n ** 32n, 2n ** 53n, 2n ** 64n - 1n], 2), stored([1], 2n ** 31n)];
    const parent = { blockHashes: ["1"], parentHash: "2", tier: "cpu", medium: "Cpu" };
    expect(messageJson(0, decodeVllmBatch(encoder.encode([0.5, told, 0])))).toMatchObject({
      events: [
        {
          ...{ type: "stored", ...parent, blockSize: 2 },
          tokenIds: [-1, 4_294_967_296, 9_007_199_254_740_992, "18446744073709551615"],
        },
        { type: "stored", ...parent, tokenIds: [1], blockSize: 2_147_483_648 },
      ],
    });
  });

  it("prints a message that cannot be decoded as one skipped event", () => {
    expect(messageJson(7, decodeVllmBatch(Uint8Array.from([0xc1])))).toEqual({
      seq: 7,
      ts: null,
      rank: null,
      events: [{ type: "skipped", reason: "not-msgpack" }],
    });
  });
});

describe("captures", () => {
  it("are read as they are written", () => {
    const message = { topic: "kv", seq: 3, payload: Buffer.from([1, 2, 255]) };
    expect(parseCaptureLine(captureLine(message))).toEqual({ ok: true, value: message });
  });

  it("may have messages as large as a socket takes", () => {
    const payload = Buffer.alloc(MESSAGE_BYTES_MAX, 0x90);
    const read = parseCaptureLine(captureLine({ topic: "", seq: 1, payload }));
    expect(read.ok && payload.equals(read.value.payload)).toBe(true);
  });

  it("are one line, whoever splits it", () => {
    const text = "a\u2028b\u2029c\u0085d\u000be";
    const line = jsonLine({ text });
    expect(line).toMatch(/^[\x20-\x7e]*$/);
    expect(JSON.parse(line)).toEqual({ text });
  });

  it("refuse lines that are no message", () => {
    for (const line of [
      "",
      "[]",
      "{}",
      '{"seq":-1,"payload_hex":""}',
      '{"seq":1,"payload_hex":"f"}',
    ]) {
      expect(parseCaptureLine(line)).toMatchObject({ ok: false, reason: "capture-line" });
    }
  });
});
