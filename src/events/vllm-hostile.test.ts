/** What vLLM's decoder makes of payloads that no engine sends. */
import { Encoder } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { changedBytes } from "../../test/harness/changed-bytes.ts";
import { loadMessages } from "../../test/harness/golden.ts";
import { PAYLOAD_BYTES_MAX } from "./event-payload.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

const encoder = new Encoder({ useBigInt64: true });
const removal = ["BlockRemoved", [11n]];

describe("hostile payloads", () => {
  it("that are no batch are refused with a reason", () => {
    const reasonOf = (payload: Uint8Array): string | null => {
      const decoded = decodeVllmBatch(payload);
      return decoded.ok ? null : decoded.reason;
    };
    expect(reasonOf(new Uint8Array(0))).toBe("not-msgpack");
    expect(reasonOf(Uint8Array.of(0xc1))).toBe("not-msgpack");
    expect(reasonOf(encoder.encode([1.5, [], 0]).subarray(0, -1))).toBe("not-msgpack");
    expect(reasonOf(encoder.encode({ ts: 1 }))).toBe("malformed-batch");
    expect(reasonOf(encoder.encode(["now", []]))).toBe("malformed-batch");
    expect(reasonOf(encoder.encode([1.5, {}]))).toBe("malformed-batch");
    expect(reasonOf(encoder.encode([1.5, [], 1024]))).toBe("malformed-batch");
    expect(reasonOf(encoder.encode([1.5, [], -1]))).toBe("malformed-batch");
    expect(reasonOf(new Uint8Array(PAYLOAD_BYTES_MAX + 1))).toBe("oversized");
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, -1, 1e300])("with ts %d are refused", (ts) => {
    expect(decodeVllmBatch(encoder.encode([ts, [], 0]))).toMatchObject({
      reason: "malformed-batch",
    });
  });

  it("with lengths that the bytes cannot fill are refused before anything is allocated", () => {
    const bombs = [
      [0xdd, 0xff, 0xff, 0xff, 0xff],
      [0xdf, 0xff, 0xff, 0xff, 0xff],
      [0xdb, 0xff, 0xff, 0xff, 0xff],
      [0xc6, 0xff, 0xff, 0xff, 0xff],
      [0xc9, 0xff, 0xff, 0xff, 0xff, 1],
      [0xdc, 0xff, 0xff],
    ];
    for (const bomb of bombs) {
      for (const prefix of [[], [0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x91]]) {
        const payload = Uint8Array.from([...prefix, ...bomb]);
        expect(decodeVllmBatch(payload)).toMatchObject({ reason: "not-msgpack" });
      }
    }
  });

  it("with arrays of millions inside each other cost no memory", () => {
    // 2,000 levels that each claim 4 Mi elements: 64 GB if they were believed.
    const claims = Array.from({ length: 2000 }, () => [0xdd, 0x00, 0x40, 0x00, 0x00]).flat();
    const before = process.memoryUsage().rss;
    expect(decodeVllmBatch(Uint8Array.from(claims))).toMatchObject({ reason: "not-msgpack" });
    expect(process.memoryUsage().rss - before).toBeLessThan(200_000_000);
  });

  it("nested 100,000 levels deep are refused", () => {
    const deep = new Uint8Array(100_001).fill(0x91, 0, 100_000);
    const maps = Uint8Array.from({ length: 200_001 }, (_, at) => (at % 2 === 0 ? 0x81 : 0xa0));
    expect(decodeVllmBatch(deep)).toMatchObject({ ok: false });
    expect(decodeVllmBatch(maps)).toMatchObject({ ok: false });
    const inBatch = Uint8Array.from([0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, ...deep, 0]);
    expect(decodeVllmBatch(inBatch)).toMatchObject({ ok: false });
  });

  it("with __proto__ keys change no prototype and do not throw", () => {
    const key = (text: string): number[] => [0xa0 + text.length, ...Buffer.from(text)];
    const event = [0x82, ...key("type"), ...key("BlockStored"), ...key("__proto__"), 0x80];
    const payload = Uint8Array.from([0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x91, ...event, 0]);
    decodeVllmBatch(payload);
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
    const constructed = { type: "constructor", constructor: { prototype: { polluted: 1 } } };
    expect(decodeVllmBatch(encoder.encode([1.5, [constructed], 0]))).toMatchObject({
      value: { events: [{ type: "skipped", reason: "unknown-tag" }] },
    });
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });

  it("leave the decoder able to read the next one", () => {
    const good = encoder.encode([1.5, [removal, removal], 0]);
    for (let cut = 0; cut < good.length; cut += 1) {
      expect(decodeVllmBatch(good.subarray(0, cut)).ok).toBe(false);
      expect(decodeVllmBatch(good)).toMatchObject({ value: { events: [{}, {}] } });
    }
  });

  const payloads = [
    "vllm-0.11.2/b_eviction",
    "vllm-0.33.0/a_shared_prefix.sha256.seed_0.bytes",
    "vllm-0.33.0/f_multimodal",
    "vllm-0.33.0/g_offload_cpu.placeholder",
    "vllm-0.33.0/i_hybrid_full_plus_sliding",
  ].flatMap((name) => loadMessages(name).map(({ payload }) => payload));

  it("made from golden ones by changed, cut and inserted bytes always give a result", () => {
    fc.assert(
      fc.property(changedBytes(payloads, 8), (changed) => expectUsable(decodeVllmBatch(changed))),
      { numRuns: 500 },
    );
  });

  it("of random bytes always give a result", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expectUsable(decodeVllmBatch(bytes));
        const [head, ts] = [Uint8Array.of(0x92, 0xcb), new Uint8Array(8)];
        expectUsable(decodeVllmBatch(Uint8Array.from([...head, ...ts, 0x91, ...bytes])));
      }),
      { numRuns: 500 },
    );
  });
});

/** A result is a reason, or a batch whose values are within what the rest of the path relies on. */
function expectUsable(decoded: ReturnType<typeof decodeVllmBatch>): void {
  if (!decoded.ok) {
    expect(["oversized", "not-msgpack", "malformed-batch"]).toContain(decoded.reason);
    return;
  }
  expect(Number.isFinite(decoded.value.ts)).toBe(true);
  for (const event of decoded.value.events) {
    if (event.type === "cleared" || event.type === "skipped") continue;
    for (const handle of event.handles) expect(handle).toBe(BigInt.asUintN(64, handle));
    if (event.type === "removed") continue;
    expect(event.tokens).toBeInstanceOf(Uint32Array);
    expect(Number.isInteger(event.blockSizeTokens)).toBe(true);
  }
}
