import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { markedInteger, parseJson } from "./json-values.ts";

const parse = (text: string): unknown => {
  const parsed = parseJson(new TextEncoder().encode(text), {
    depthMax: 32,
    heapBytesMax: 1_000_000,
  });
  return parsed.ok ? parsed.value : parsed.reason;
};

describe("JSON of engines", () => {
  it("is what JSON.parse reads, where all numbers are short integers", () => {
    const value = fc.jsonValue({ maxDepth: 6 });
    fc.assert(
      fc.property(value, (written) => {
        const text = JSON.stringify(written);
        const isShort = !/\d{16}|\d[.eE]/.test(text);
        if (isShort) expect(parse(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  it("keeps every digit of a long integer", () => {
    const integer = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(integer, (value) => {
        const [read] = parse(`[ ${value},{"a":"${value}"}]`) as [string | number];
        expect(typeof read === "number" ? BigInt(read) : markedInteger(read)).toBe(value);
      }),
    );
  });

  it("leaves strings and longer numbers alone", () => {
    const text = '["\\"1234567890123456789","1.5 1e3",123456789012345678901,-0]';
    expect(parse(text)).toEqual(JSON.parse(text));
    expect(markedInteger("1234567890123456789")).toBeNull();
  });

  it("has objects without fields for fractions and exponents, which are no integers", () => {
    const text = '[1.0,-1.5e3,{"a":0e0},1E+5 ,0.25,1234567890123456789.5]';
    expect(parse(text)).toEqual([{}, {}, { a: {} }, {}, {}, {}]);
    for (const bad of ["1.", "1e", "1.5e+", "01.5", "-.5", ".5", "1.5.5", "1.5e5e5", "1.5a"]) {
      expect(parse(`[${bad}]`)).toBe("not-json");
    }
  });

  it("is refused beyond the nesting, and when it is none", () => {
    expect(parse("[".repeat(32) + "]".repeat(32))).not.toBe("not-json");
    expect(parse("[".repeat(33) + "]".repeat(33))).toBe("not-json");
    for (const bad of ["", "[1", "nope", '"\\', "-", "[01234567890123456789}"]) {
      expect(parse(bad)).toBe("not-json");
    }
    expect(parseJson(Uint8Array.of(0x22, 0xff, 0x22), { depthMax: 2, heapBytesMax: 1000 }).ok).toBe(
      false,
    );
  });
});
