import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BodyBudget } from "./body-budget.ts";
import { BodyBuffer } from "./body-buffer.ts";

describe("BodyBuffer", () => {
  it("gives the bytes back for any chunking", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (chunks) => {
        const buffer = new BodyBuffer(1_000_000, new BodyBudget(1_000_000));
        for (const chunk of chunks) expect(buffer.push(Buffer.from(chunk))).toBe("kept");
        expect(buffer.take().equals(Buffer.concat(chunks))).toBe(true);
        expect(buffer.bytes).toBe(0);
      }),
    );
  });

  it("refuses the chunk that passes the limit and keeps what came before", () => {
    const buffer = new BodyBuffer(3, new BodyBudget(10));
    expect(buffer.push(Buffer.from("abc"))).toBe("kept");
    expect(buffer.push(Buffer.from("d"))).toBe("too-large");
    expect(buffer.take().toString()).toBe("abc");
  });

  it("shares a budget with other bodies, and gives back what it took", () => {
    const budget = new BodyBudget(5);
    const [one, other] = [new BodyBuffer(10, budget), new BodyBuffer(10, budget)];
    expect(one.push(Buffer.from("abcd"))).toBe("kept");
    expect(other.push(Buffer.from("ef"))).toBe("over-budget");
    one.take();
    expect(budget.bytes).toBe(4);
    one.release();
    one.release();
    expect(budget.bytes).toBe(0);
    expect(other.push(Buffer.from("ef"))).toBe("kept");
  });
});
