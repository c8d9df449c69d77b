import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { blockKey, endpointId, type Holder } from "../core/ids.ts";
import { type BlockRecord, type HolderCursor, Residency } from "../indexer/residency.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import { decodeHead, decodePart, encodeHead, encodeParts } from "./snapshot-codec.ts";

const holder: Holder = { endpointId: endpointId("[fe80::1]:8000"), rank: 3 };
const cursor: HolderCursor = {
  ...{ state: "DEGRADED", reason: "gap", epoch: 2, seq: 7, engineMs: 1234.5 },
  ...{ blockSizesTokens: [16, 256], model: "m", ignoredGroups: [1, 3], lanes: ["CPU", "#2"] },
};
const head = { keySeed: 1, id: "A1", parts: 2, rows: 3, stream: "s", seq: 4, atMs: 5 };

function residencyOf(
  rows: Iterable<readonly [bigint, BlockRecord]>,
  ambiguous: readonly bigint[] = [],
): Residency {
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1000 });
  residency.replace(holder, { rows, cursor, ambiguous: BigUint64Array.from(ambiguous) });
  return residency;
}

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const recordArb = fc.record({
  key: u64.map(blockKey),
  copies: fc.array(fc.integer({ min: 0, max: 65_535 }), { minLength: 4, maxLength: 4 }),
});

describe("parts of a snapshot", () => {
  it("give back every row, ambiguous key and the cursor, however many parts they take", () => {
    const entriesArb = fc.array(fc.tuple(u64, recordArb), { maxLength: 20 });
    const ambiguousArb = fc.uniqueArray(u64, { maxLength: 9 });
    fc.assert(
      fc.property(entriesArb, ambiguousArb, (entries, ambiguous) => {
        const rows = [...new Map(entries)];
        const residency = residencyOf(rows, ambiguous);
        // Four rows a part.
        const encoded = encodeParts(residency, holder, 1024 + 4 * 24);
        const keys = [...residency.ambiguousKeys(holder)];
        const partsMin = Math.ceil(rows.length / 4) + Math.ceil(keys.length / 4);
        expect(encoded).toHaveLength(Math.max(1, partsMin));
        expect(keys).toEqual(expect.arrayContaining(ambiguous));
        const parts = encoded.map((data) => {
          expect(data.length).toBeLessThanOrEqual(1024 + 4 * 24);
          const part = decodePart(data);
          if (!part.ok) throw new Error(part.detail);
          return part.value;
        });
        expect(parts.flatMap((part) => part.rows)).toEqual(rows);
        expect(parts.flatMap((part) => [...part.ambiguous])).toEqual(keys);
        expect(parts.map((part) => [part.number, part.parts])).toEqual(
          parts.map((_, number) => [number, parts.length]),
        );
        for (const part of parts) expect(part).toMatchObject({ holder, cursor });
      }),
    );
  });

  it("are refused when they are none, and never throw", () => {
    const [data = new Uint8Array()] = encodeParts(residencyOf([]), holder, 4096);
    fc.assert(
      fc.property(fc.nat(data.length - 1), fc.nat(255), (at, byte) => {
        const damaged = data.slice();
        damaged[at] = byte;
        decodePart(damaged);
        expect(decodePart(data.subarray(0, at))).toMatchObject({ ok: false, reason: "malformed" });
      }),
    );
  });

  it("are refused with blocks of more tokens than there are keys for", () => {
    const part = (tokens: number): Uint8Array => {
      const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1 });
      const known = { rows: [], ambiguous: new BigUint64Array(0) };
      residency.replace(holder, {
        ...known,
        cursor: { ...cursor, blockSizesTokens: [16, tokens] },
      });
      return encodeParts(residency, holder, 4096)[0] ?? new Uint8Array();
    };
    expect(decodePart(part(BLOCK_SIZE_TOKENS_MAX))).toMatchObject({ ok: true });
    expect(decodePart(part(BLOCK_SIZE_TOKENS_MAX + 1))).toMatchObject({
      ...{ ok: false, reason: "malformed" },
    });
  });

  it("are none for a holder of which nothing is known", () => {
    const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1 });
    expect(encodeParts(residency, holder, 4096)).toEqual([]);
  });
});

describe("head of a snapshot", () => {
  const text = (fields: Parameters<typeof encodeHead>[0]): string =>
    new TextDecoder().decode(encodeHead(fields));

  it("is read back, and refused by name where it does not fit", () => {
    expect(decodeHead(text(head), 1)).toMatchObject({ ok: true, value: head });
    expect(decodeHead(text(head), 2)).toMatchObject({ ok: false, reason: "other-key-seed" });
    const other = text(head).replace('"layout":5', '"layout":9');
    expect(decodeHead(other, 1)).toMatchObject({ ok: false, reason: "other-layout" });
    for (const none of ["", "{}", "null", text({ ...head, id: "a.b" })]) {
      expect(decodeHead(none, 1)).toMatchObject({ ok: false, reason: "malformed" });
    }
  });
});
