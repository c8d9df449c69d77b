import { Decoder, Encoder } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { msgpackEnd } from "./msgpack-shape.ts";

const limits = { depthMax: 64 };
const encoder = new Encoder({ useBigInt64: true });

/** The message of the decoder's refusal, or null. */
function decoderProblem(bytes: Uint8Array): string | null {
  try {
    for (const _ of new Decoder({ useBigInt64: true }).decodeMulti(bytes)) return null;
    return "no value";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

describe("msgpack shape", () => {
  it("lets through whatever an encoder writes, and no part of it", () => {
    const leaf = fc.oneof(
      fc.string(),
      fc.integer(),
      fc.double(),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
      fc.constantFrom(null, true, false),
      fc.uint8Array({ maxLength: 300 }),
    );
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 5 },
        leaf,
        fc.array(tie("value"), { maxLength: 20 }),
        fc.dictionary(fc.string({ maxLength: 40 }), tie("value"), { maxKeys: 20 }),
      ),
    }));
    fc.assert(
      fc.property(value, fc.nat(), (written, cut) => {
        const bytes = encoder.encode(written);
        const behind = Uint8Array.from([...bytes, 0xc0]);
        for (const each of [bytes, behind]) {
          expect(msgpackEnd(each, limits)).toEqual({ ok: true, value: bytes.length });
        }
        const part = bytes.subarray(0, cut % bytes.length);
        expect(msgpackEnd(part, limits)).toMatchObject({ ok: false });
      }),
    );
  });

  it("agrees with the decoder on any bytes", () => {
    const heads = fc.constantFrom(...Array.from({ length: 256 }, (_, head) => head));
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc
        .tuple(heads, fc.uint8Array({ maxLength: 40 }))
        .map(([head, rest]) => Uint8Array.from([head, ...rest])),
    );
    fc.assert(
      fc.property(bytes, (input) => {
        const end = msgpackEnd(input, limits);
        const refusal = decoderProblem(input);
        if (!end.ok) expect(refusal).not.toBeNull();
        // What the decoder refuses beyond shape: keys of maps, and extension types.
        else if (refusal !== null) expect(refusal).toMatch(/key|timestamp/i);
      }),
      { numRuns: 2000 },
    );
  });

  it("has a limit of nesting", () => {
    const nested = (depth: number): Uint8Array => new Uint8Array(depth + 1).fill(0x91, 0, depth);
    expect(msgpackEnd(nested(64), limits)).toMatchObject({ value: 65 });
    expect(msgpackEnd(nested(65), limits)).toMatchObject({ detail: "nested deeper than 64" });
  });
});
