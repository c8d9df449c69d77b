import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BodyBuffer } from "./body-buffer.ts";

describe("BodyBuffer", () => {
  it("gives the bytes back for any chunking", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (chunks) => {
        const buffer = new BodyBuffer(1_000_000);
        for (const chunk of chunks) expect(buffer.push(Buffer.from(chunk))).toBe(true);
        expect(buffer.take().equals(Buffer.concat(chunks))).toBe(true);
        expect(buffer.bytes).toBe(0);
      }),
    );
  });

  it("refuses the chunk that passes the limit and keeps what came before", () => {
    const buffer = new BodyBuffer(3);
    expect(buffer.push(Buffer.from("abc"))).toBe(true);
    expect(buffer.push(Buffer.from("d"))).toBe(false);
    expect(buffer.take().toString()).toBe("abc");
  });
});
