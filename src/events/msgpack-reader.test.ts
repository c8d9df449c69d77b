import { decode, Encoder, ExtData } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { integerForms } from "../../test/harness/msgpack-forms.ts";
import { MsgpackReader } from "./msgpack-reader.ts";

const encoder = new Encoder({ useBigInt64: true });
const BYTES_MAX = 1_000_000;

function readerOf(bytes: Uint8Array): MsgpackReader {
  return new MsgpackReader(bytes, BYTES_MAX);
}

const integers = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
  fc.bigInt({ min: -(2n ** 53n) - 2n, max: 2n ** 53n + 2n }),
  fc.constantFrom(2n ** 53n, -(2n ** 53n), 2n ** 53n + 1n, 2n ** 32n, -(2n ** 31n)),
  fc.bigInt({ min: -200n, max: 300n }),
);

describe("a reader of msgpack", () => {
  it("reads an integer alike in each of its forms: a number up to 2^53", () => {
    fc.assert(
      fc.property(integers, (integer) => {
        const isPlain = integer >= -(2n ** 53n) && integer <= 2n ** 53n;
        for (const form of [...integerForms(integer), [...encoder.encode(integer)]]) {
          const reader = readerOf(Uint8Array.from(form));
          expect(reader.value()).toBe(isPlain ? Number(integer) : integer);
          expect(reader.at).toBe(form.length);
        }
      }),
    );
  });

  it("reads lists of token ids and hashes alike, whatever their forms", () => {
    const token = fc.nat({ max: 0xffff_ffff }).map(BigInt);
    const form = fc.nat();
    const listed = (list: readonly (readonly [bigint, number])[]): Uint8Array => {
      const written = list.map(([integer, which]) => {
        const all = integerForms(integer);
        return Uint8Array.from(all[which % all.length] ?? []);
      });
      const head = Uint8Array.of(0xdc, list.length >> 8, list.length & 0xff);
      return Buffer.concat([head, ...written]);
    };
    fc.assert(
      fc.property(fc.array(fc.tuple(token, form)), fc.array(fc.tuple(integers, form)), (a, b) => {
        const tokens = a.map(([integer]) => Number(integer));
        expect(readerOf(listed(a)).tokens()?.tokens).toEqual(Uint32Array.from(tokens));
        const hashes = b.map(([integer]) => integer);
        expect(readerOf(listed(b)).hashes()).toEqual(BigUint64Array.from(hashes));
      }),
    );
  });

  it("reads what an encoder writes, and passes as much of it", () => {
    const leaf = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.integer(),
      fc.bigInt({ min: 2n ** 60n, max: 2n ** 64n - 1n }),
      fc.constantFrom(null, true, false),
      fc.uint8Array({ maxLength: 300 }),
    );
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 5 },
        leaf,
        fc.array(tie("value"), { maxLength: 20 }),
        fc.dictionary(fc.string({ maxLength: 40 }), tie("value"), {
          maxKeys: 20,
          noNullPrototype: true,
        }),
      ),
    }));
    fc.assert(
      fc.property(
        value.filter((each) => !JSON.stringify(each, noBigint).includes("__proto__")),
        (written) => {
          const bytes = encoder.encode(written);
          const [reader, skipped] = [readerOf(bytes), readerOf(bytes)];
          expect(reader.value()).toEqual(decode(bytes, { useBigInt64: true }));
          skipped.skip();
          expect([reader.at, skipped.at]).toEqual([bytes.length, bytes.length]);
        },
      ),
    );
  });

  it("tells floats from integers, and reads neither extensions nor broken text", () => {
    const floats = new Encoder({ forceIntegerToFloat: true });
    expect(readerOf(floats.encode(1)).value()).toEqual({});
    expect(readerOf(floats.encode(1)).number()).toBe(1);
    expect(readerOf(encoder.encode(0.5)).value()).toBe(0.5);
    expect(readerOf(encoder.encode(7)).number()).toBe(7);
    expect(readerOf(encoder.encode("7")).number()).toBeNull();
    expect(readerOf(encoder.encode(new ExtData(5, Uint8Array.of(1)))).value()).toEqual({});
    expect(readerOf(Uint8Array.of(0xa1, 0xff)).value()).toEqual({});
    expect(readerOf(Uint8Array.of(0xa3, 0xef, 0xbf, 0xbd)).value()).toBe("\ufffd");
  });

  it("passes over fields whose names are no text", () => {
    const text = (letters: string): number[] => [0xa0 | letters.length, ...Buffer.from(letters)];
    for (const name of [
      [0xc0],
      [0xc4, 1, 97],
      [0x91, 0x01],
      [0xcb, ...new Array(8).fill(0)],
      text("__proto__"),
    ]) {
      const bytes = Uint8Array.from([0x82, ...name, 0x91, 0x05, ...text("a"), 0x07]);
      const reader = readerOf(bytes);
      expect(reader.value()).toEqual({ a: 7 });
      expect(reader.at).toBe(bytes.length);
    }
  });

  it("reads no more than the memory that it is given", () => {
    const bytes = encoder.encode(new Array(1000).fill("text"));
    const reader = new MsgpackReader(bytes, 10_000);
    expect(reader.value()).toEqual({});
    expect(reader.isSpent).toBe(true);
    expect(new MsgpackReader(bytes, 100_000).value()).toHaveLength(1000);
    const list = encoder.encode(new Array(1000).fill(7));
    expect(new MsgpackReader(list, 1000).tokens()).toBeUndefined();
    expect(new MsgpackReader(list, 1000).hashes()).toBeUndefined();
    expect(new MsgpackReader(list, 1000).integers()).toBeUndefined();
  });
});

function noBigint(_name: string, value: unknown): unknown {
  return typeof value === "bigint" ? `${value}` : value;
}
