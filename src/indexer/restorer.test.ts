import { expect, it } from "vitest";
import { endpointId, type Holder } from "../core/ids.ts";
import { HotIndex } from "./hot-index.ts";
import type { PagePortion } from "./lmdb-store.ts";
import { type HolderCursor, Residency } from "./residency.ts";
import { Restorer } from "./restorer.ts";

const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const cursor: HolderCursor = {
  ...{ state: "EXACT", reason: null, epoch: 1, seq: 3, engineMs: 5, blockSizesTokens: [16] },
  ...{ model: "m", ignoredGroups: [] },
};
const words = BigUint64Array.from({ length: 100 }, (_, block) => BigInt(block + 1));

/** A page of 100 blocks, as the store reads it. */
function portion(): PagePortion {
  const residency = new Residency({ index: new HotIndex(1000), entriesMax: 1000 });
  residency.stored(holder, "gpu", words, words);
  const { bytes } = residency.takeFlush(1e6);
  return { bytes, pages: [{ holder: 0, page: 0, end: bytes.length }] };
}

it("says index-full of a holder whose blocks the index has no room for, and keeps what has", () => {
  const index = new HotIndex(60);
  const residency = new Residency({ index, entriesMax: 1000 });
  const { endpointId: endpoint, rank } = holder;
  const ambiguous = new BigUint64Array(0);
  const restorer = new Restorer(
    {
      holders: [{ endpoint, rank, cursor, ambiguous, blocks: 100, pages: 1 }],
      ...{ logCursor: null, rowsRefused: 0, isEmptied: false },
    },
    residency,
  );
  restorer.take(portion());
  expect(residency.cursorOf(holder)).toMatchObject({ state: "DEGRADED", reason: "index-full" });
  expect(restorer.outcome).toMatchObject({ blocks: 100, holdersDamaged: 0 });
  expect(index.match(words)).toMatchObject([{ holder, blocks: 60 }]);
});

it("and so does an event that stores more", () => {
  const index = new HotIndex(60);
  const residency = new Residency({ index, entriesMax: 1000 });
  expect(residency.stored(holder, "gpu", words, words)).toBe(40);
  expect(index.refused.table).toBe(40);
});
