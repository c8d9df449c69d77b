import { expect, it } from "vitest";
import type { BlockStored, KvEvent } from "./kv-event.ts";
import { endOfStores, joinedHandles, storesOf } from "./store-runs.ts";

const stored = (handles: bigint[], fields: Partial<BlockStored> = {}): BlockStored => ({
  type: "stored",
  handles: BigUint64Array.from(handles),
  parent: null,
  tokens: new Uint32Array(2 * handles.length),
  blockSizeTokens: 2,
  ...{ medium: "GPU", loraName: null, loraId: null, extraKeys: null, group: null, specKind: null },
  ...fields,
});
const endsIn = (...events: KvEvent[]): number => endOfStores(events, 0);

it("takes neighbouring stores of one kind as one, whatever prompt they are of", () => {
  const events = [stored([1n]), stored([2n, 3n]), stored([1n], { extraKeys: [null] })];
  expect(endsIn(...events, { type: "cleared" }, stored([4n]))).toBe(3);
  expect(joinedHandles(storesOf(events, 0, 3))).toEqual(BigUint64Array.of(1n, 2n, 3n, 1n));
  const piece = BigUint64Array.of(7n, 8n, 9n);
  const scanned = [
    stored([], { handles: piece.subarray(0, 2) }),
    stored([], { handles: piece.subarray(2) }),
  ];
  expect(joinedHandles(scanned).buffer).toBe(piece.buffer);
  expect(joinedHandles(scanned)).toEqual(piece);
});

it.each<Partial<BlockStored>>([
  { medium: "CPU" },
  { blockSizeTokens: 4, tokens: new Uint32Array(4) },
  { loraName: "a" },
  { loraId: 1 },
  { group: 1 },
  { specKind: "mla_attention" },
  { cacheSalt: "s" },
  { extraKeys: [["image"]] },
  { extraKeys: [] },
  { caveat: "token-pairs" },
  { tokens: new Uint32Array(3) },
  { tokens: new Uint32Array(0), blockSizeTokens: 0 },
])("takes %o by itself", (fields) => {
  const odd = stored([2n], fields);
  expect([endsIn(stored([1n]), odd), endsIn(odd, stored([1n]))]).toEqual([1, 1]);
});
