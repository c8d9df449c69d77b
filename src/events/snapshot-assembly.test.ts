import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blockKey, endpointId } from "../core/ids.ts";
import type { HolderCursor } from "../indexer/residency.ts";
import { SnapshotAssembly } from "./snapshot-assembly.ts";
import type { SnapshotPart } from "./snapshot-codec.ts";

const cursor: HolderCursor = {
  ...{ state: "EXACT", reason: null, epoch: 1, seq: 7, engineMs: 5 },
  ...{ blockSizesTokens: [16], model: "m", ignoredGroups: [], lanes: [] },
};

/** The parts of one holder, with a row each. */
function partsOf(rank: number, parts: number): SnapshotPart[] {
  const holder = { endpointId: endpointId("10.0.0.1:8000"), rank };
  return Array.from({ length: parts }, (_, number) => ({
    ...{ holder, number, parts, cursor, ambiguous: new BigUint64Array(0) },
    rows: [[BigInt(number), { key: blockKey(1n), copies: [1, 0, 0, 0] }]],
  }));
}

/** The holders that come out, as rank and number of parts. */
function assembled(parts: readonly SnapshotPart[]): { whole: number[][]; isWhole: boolean } {
  const assembly = new SnapshotAssembly();
  const whole = parts.flatMap((part) => {
    const taken = assembly.add(part);
    return taken === null ? [] : [[taken[0]?.holder.rank ?? -1, taken.length]];
  });
  return { whole, isWhole: assembly.isWhole };
}

describe("a snapshot's parts", () => {
  it("give every holder that has all of its own, whichever others are missing", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(sizes, fc.infiniteStream(fc.boolean()), (counts, chance) => {
        const all = counts.flatMap((parts, rank) => partsOf(rank, parts));
        const kept = all.filter(() => chance.next().value);
        const isKept = (rank: number): boolean =>
          kept.filter(({ holder }) => holder.rank === rank).length === counts[rank];
        const expected = counts.flatMap((parts, rank) => (isKept(rank) ? [[rank, parts]] : []));
        expect(assembled(kept).whole).toEqual(expected);
        expect(assembled(all)).toMatchObject({ isWhole: true });
      }),
    );
  });

  it("are no holder in another order, or of two cursors", () => {
    const [first, second] = partsOf(0, 2);
    if (first === undefined || second === undefined) throw new Error("no parts");
    expect(assembled([second, first])).toEqual({ whole: [], isWhole: false });
    const later = { ...second, cursor: { ...cursor, seq: 8 } };
    expect(assembled([first, later])).toEqual({ whole: [], isWhole: false });
  });
});
