import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadMessages } from "../../test/harness/golden.ts";
import { parseFrames } from "./frames.ts";

const sequence = (seq: bigint): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, seq);
  return bytes;
};

describe("frames", () => {
  it("of a golden capture give its sequence numbers and payloads", () => {
    for (const { frames, seq, payload } of loadMessages("vllm-0.33.0/k_gaps")) {
      expect(parseFrames(frames)).toEqual({ ok: true, value: { seq, payload } });
    }
  });

  it("are read at their own place in a larger buffer", () => {
    const buffer = Uint8Array.from([9, 9, 9, ...sequence(258n), 9]);
    const frames = [new Uint8Array(0), buffer.subarray(3, 11), new Uint8Array(1)];
    expect(parseFrames(frames)).toMatchObject({ value: { seq: 258 } });
  });

  it("of another number are refused", () => {
    const frame = sequence(1n);
    for (const count of [0, 1, 2, 4, 5]) {
      expect(parseFrames(new Array(count).fill(frame))).toMatchObject({ reason: "frame-count" });
    }
  });

  it("with a sequence that is not 8 bytes, or no exact number, are refused", () => {
    const empty = new Uint8Array(0);
    for (const bytes of [0, 1, 7, 9, 16]) {
      const frames = [empty, new Uint8Array(bytes), empty];
      expect(parseFrames(frames)).toMatchObject({ reason: "sequence-frame" });
    }
    const exactMax = BigInt(Number.MAX_SAFE_INTEGER);
    expect(parseFrames([empty, sequence(exactMax), empty])).toMatchObject({ ok: true });
    expect(parseFrames([empty, sequence(exactMax + 1n), empty])).toMatchObject({
      reason: "sequence-frame",
    });
    // The end marker of vLLM's replay socket.
    expect(parseFrames([empty, sequence(2n ** 64n - 1n), empty])).toMatchObject({ ok: false });
  });

  it("of any bytes give a result", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 12 }), { maxLength: 5 }), (frames) => {
        const parsed = parseFrames(frames);
        if (parsed.ok) expect(Number.isSafeInteger(parsed.value.seq)).toBe(true);
      }),
    );
  });
});
