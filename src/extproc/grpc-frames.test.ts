import fc from "fast-check";
import { expect, it } from "vitest";
import { FrameReader, framed } from "./grpc-frames.ts";

const messagesArb = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 });

it("puts messages together wherever their bytes are cut", () => {
  fc.assert(
    fc.property(messagesArb, fc.array(fc.integer({ min: 1, max: 40 })), (messages, cuts) => {
      const bytes = Buffer.concat(messages.map(framed));
      const read: Buffer[] = [];
      const reader = new FrameReader(300, (message) => read.push(Buffer.from(message)));
      let at = 0;
      for (const cut of [...cuts, bytes.length]) {
        expect(reader.push(bytes.subarray(at, at + cut))).toBe(null);
        at = Math.min(bytes.length, at + cut);
      }
      expect(read.map((each) => each.toString("hex"))).toEqual(
        messages.map((each) => Buffer.from(each).toString("hex")),
      );
    }),
  );
});

it("refuses a message over its limit before it has come, and one that is compressed", () => {
  const reader = (): FrameReader => new FrameReader(10, () => {});
  expect(reader().push(framed(Buffer.alloc(11)).subarray(0, 5))).toBe("too-large");
  expect(reader().push(framed(Buffer.alloc(10)))).toBe(null);
  expect(reader().push(Buffer.from([1, 0, 0, 0, 0]))).toBe("compressed");
});
