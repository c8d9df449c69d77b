import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { keyOf, keysQuery, QUERY_KEYS_MAX, QUERY_TOKENS_MAX, tokensQuery } from "./prompt-query.ts";

const names = { lora: "", cacheSalt: "" };
const le = (values: readonly (number | bigint)[], bytes: 4 | 8): Uint8Array => {
  const view = new DataView(new ArrayBuffer(values.length * bytes));
  values.forEach((value, at) => {
    if (bytes === 4) view.setUint32(4 * at, Number(value), true);
    else view.setBigUint64(8 * at, BigInt(value), true);
  });
  return new Uint8Array(view.buffer);
};

describe("a query's bytes", () => {
  it("are read as little endian, wherever they lie in their buffer", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 0xffff_ffff }), { maxLength: 50 }),
        fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { maxLength: 50 }),
        fc.integer({ min: 0, max: 9 }),
        (tokens, keys, offset) => {
          const placed = (bytes: Uint8Array): Uint8Array => {
            const whole = new Uint8Array(offset + bytes.length);
            whole.set(bytes, offset);
            return whole.subarray(offset);
          };
          expect(tokensQuery(placed(le(tokens, 4)), { lora: "a", cacheSalt: "b" })).toEqual({
            ok: true,
            value: { kind: "tokens", tokens: Uint32Array.from(tokens), lora: "a", cacheSalt: "b" },
          });
          expect(keysQuery(placed(le(keys, 8)), 16)).toEqual({
            ok: true,
            value: { kind: "keys", keys: BigUint64Array.from(keys), blockSizeTokens: 16 },
          });
          for (const key of keys) expect(keyOf(placed(le([key], 8)))).toBe(key);
        },
      ),
    );
  });

  it("are refused with a reason, whatever they are", () => {
    const bytes = (n: number): Uint8Array => new Uint8Array(n);
    expect(tokensQuery(bytes(5), names)).toMatchObject({ reason: "malformed-tokens" });
    const tooMany = { ok: false, reason: "too-many-tokens" };
    expect(tokensQuery(bytes(4 * QUERY_TOKENS_MAX + 4), names)).toMatchObject(tooMany);
    expect(keysQuery(bytes(QUERY_TOKENS_MAX), 4096)).toMatchObject(tooMany);
    const tooManyKeys = { ok: false, reason: "too-many-keys" };
    expect(keysQuery(bytes(8 * QUERY_KEYS_MAX + 8), 1)).toMatchObject(tooManyKeys);
    expect(keysQuery(bytes(8 * QUERY_KEYS_MAX), 1)).toMatchObject({ ok: true });
    expect(keysQuery(bytes(9), 16)).toMatchObject({ reason: "malformed-keys" });
    for (const size of [0, -1, 1.5, 4097, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(keysQuery(bytes(8), size)).toMatchObject({ reason: "block-size" });
    }
    const long = { lora: "x".repeat(1025), cacheSalt: "" };
    expect(tokensQuery(bytes(4), long)).toMatchObject({ reason: "text-too-long" });
    expect(keyOf(bytes(7))).toBeNull();
    expect(tokensQuery(bytes(0), names)).toMatchObject({ ok: true });
  });
});
