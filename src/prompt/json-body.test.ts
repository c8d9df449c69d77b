import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseJsonBody } from "./json-body.ts";
import { scanTokenIds } from "./token-scan.ts";

/** Bodies shorter than the scanner looks at are made longer by this. */
const FILL = " ".repeat(2048);

/** What JSON.parse makes of a body, with the token ids as a plain list on both sides. */
function parsedBy(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function read(text: string, field = "prompt"): unknown {
  const fields = parseJsonBody(Buffer.from(text), field);
  if (!fields.ok) return undefined;
  const value = fields.value[field];
  return value instanceof Uint32Array ? { ...fields.value, [field]: [...value] } : fields.value;
}

const isScanned = (text: string): boolean => {
  const fields = parseJsonBody(Buffer.from(text), "prompt");
  return fields.ok && fields.value["prompt"] instanceof Uint32Array;
};

/** JSON text of a value with white space and, for some numbers, another way of writing them. */
const space = fc.constantFrom("", " ", "\n", "\t\r ");
const number = fc.oneof(
  { weight: 20, arbitrary: fc.nat({ max: 0xffff_ffff }).map(String) },
  fc.constantFrom("0", "-0", "00", "1.0", "1e2", "4294967295", "4294967296", "-1", "", "01"),
  fc.constantFrom("99999999999999999999", "null", '"1"', "[1]", "1 2", "1/**/"),
);
const list = fc
  .array(fc.tuple(space, number, space), { maxLength: 40 })
  .map((parts) => `[${parts.map((part) => part.join("")).join(",")}]`);
const name = fc.constantFrom("prompt", "\\u0070rompt", 'x\\"prompt', "model", "a", "__proto__");
const value: fc.Arbitrary<string> = fc.oneof(
  list,
  fc.jsonValue({ maxDepth: 2 }).map((each) => JSON.stringify(each)),
  fc.constantFrom("1", "2", '"prompt"', '{"prompt":[1,2,3]}', '"\\"prompt\\":[1]"', "[]", "tru"),
);
const body = fc
  .array(fc.tuple(space, name, space, space, value, space), { maxLength: 4 })
  .map(
    (fields) =>
      `{${fields.map(([a, key, b, c, each, d]) => `${a}"${key}"${b}:${c}${each}${d}`).join(",")}}`,
  );

describe("bodies read around their token ids", () => {
  it("are what JSON.parse makes of them, whatever they hold", () => {
    fc.assert(
      fc.property(body, (text) => {
        const expected = parsedBy(text);
        const isObject = typeof expected === "object" && expected !== null;
        expect(read(text + FILL)).toEqual(isObject ? expected : undefined);
      }),
      { numRuns: 3000 },
    );
  });

  it("are scanned where the list is plain, wherever it stands", () => {
    for (const text of [
      '{"prompt":[1,2,128000]}',
      '{"model":"prompt","prompt" :\n[ 1 , 2,4294967295 ],"max_tokens":1.5}',
      '\ufeff{"a":{"b":[]},"prompt":[0]}',
    ]) {
      expect(isScanned(text + FILL), text).toBe(true);
    }
  });

  it("are left to JSON.parse where another key of the name could win", () => {
    for (const text of [
      '{"prompt":[1],"prompt":1}',
      '{"prompt":[1],"\\u0070rompt":[2]}',
      '{"x\\"prompt":[1]}',
      '{"a":{"prompt":[1]}}',
      '{"a":{"prompt":[1]},"prompt":1}',
    ]) {
      expect(isScanned(text + FILL), text).toBe(false);
      expect(read(text + FILL), text).toEqual(JSON.parse(text));
    }
  });

  it("of any length of list agree with JSON.parse", () => {
    const tokens = Array.from(
      { length: 40_000 },
      (_, i) => (i * 2_654_435_761) % 2 ** ((i % 32) + 1),
    );
    const text = JSON.stringify({ model: "m", prompt: tokens, stream: true });
    expect(isScanned(text)).toBe(true);
    expect(read(text)).toEqual(JSON.parse(text));
    expect(isScanned(text.slice(0, -1))).toBe(false);
  });
});

describe("token scan", () => {
  it("takes no list that is cut off, empty, or of other numbers", () => {
    for (const text of ["[", "[1", "[1,", "[]", "[,1]", "[1,]", "[-1]", "[1.5]", "[01]", "[1e3]"]) {
      expect(scanTokenIds(Buffer.from(text), 0), text).toBeNull();
    }
    expect(scanTokenIds(Buffer.from("x[ 7 ,\t8]y"), 1)).toEqual({
      tokens: Uint32Array.from([7, 8]),
      end: 9,
    });
  });
});
