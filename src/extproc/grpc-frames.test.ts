import fc from "fast-check";
import { expect, it } from "vitest";
import { BodyBudget } from "./body-budget.ts";
import { FrameReader, framed } from "./grpc-frames.ts";

const messagesArb = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 });

it("puts messages together wherever their bytes are cut", () => {
  fc.assert(
    fc.property(messagesArb, fc.array(fc.integer({ min: 1, max: 40 })), (messages, cuts) => {
      const bytes = Buffer.concat(messages.map(framed));
      const read: Buffer[] = [];
      const reader = new FrameReader({ messageBytesMax: 300, budget: null }, (message) =>
        read.push(Buffer.from(message)),
      );
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
  const reader = (): FrameReader =>
    new FrameReader({ messageBytesMax: 10, budget: null }, () => {});
  expect(reader().push(framed(Buffer.alloc(11)).subarray(0, 5))).toBe("too-large");
  expect(reader().push(framed(Buffer.alloc(10)))).toBe(null);
  expect(reader().push(Buffer.from([1, 0, 0, 0, 0]))).toBe("compressed");
});

it("counts what came of long half messages against their budget, and gives it back", () => {
  const budget = new BodyBudget(1_000_000);
  const messages: Buffer[] = [];
  const reader = (): FrameReader =>
    new FrameReader({ messageBytesMax: 1_000_000, budget }, (message) => messages.push(message));
  const long = framed(Buffer.alloc(600_000));
  const [one, two, three] = [reader(), reader(), reader()];
  expect(one.push(long.subarray(0, 60_000))).toBe(null);
  expect(budget.bytes).toBe(0);
  for (let at = 60_000; at < 550_000; at += 10_000) {
    expect(one.push(long.subarray(at, at + 10_000))).toBe(null);
  }
  expect(budget.bytes).toBe(550_000 - 66_560);
  expect(two.push(long.subarray(0, 550_000))).toBe(null);
  expect(three.push(long.subarray(0, 550_000))).toBe("over-budget");
  three.release();
  expect(one.push(long.subarray(550_000))).toBe(null);
  expect(messages).toEqual([Buffer.alloc(600_000)]);
  expect(budget.bytes).toBe(550_000 - 66_560);
  two.release();
  expect(budget.bytes).toBe(0);
});
