/** Random histories of holders, applied alike to a residency and to the plain one. */
import fc from "fast-check";
import { expect } from "vitest";
import { blockKey, endpointId, type Holder, holderName } from "../../src/core/ids.ts";
import type { HolderCursor, Residency } from "../../src/indexer/residency.ts";
import { TIERS, type Tier } from "../../src/tiers/tier.ts";
import type { MemoryIndex } from "./memory-index.ts";
import type { MemoryResidency } from "./memory-residency.ts";
import type { RowNames } from "./row-names.ts";

const podB: Holder = { endpointId: endpointId("[::1]:8000"), rank: 0 };
export const HOLDERS: readonly Holder[] = [
  { endpointId: endpointId("10.0.0.1:8000"), rank: 0 },
  podB,
  { ...podB, rank: 1 },
];

/** Handles run to some pages of rows; keys are shared by several handles. */
const HANDLES = 900;
const KEYS = 700;

export interface Operation {
  readonly kind: "store" | "remove" | "share" | "clear" | "restart" | "forget" | "pause";
  readonly holder: Holder;
  readonly tier: Tier;
  readonly first: number;
  readonly count: number;
  readonly times: number;
}

export const operationArb: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom(
    ...(["store", "store", "store", "remove", "remove", "clear", "restart", "forget"] as const),
    ...(["share", "pause", "pause"] as const),
  ),
  holder: fc.constantFrom(...HOLDERS),
  tier: fc.constantFrom("gpu", "gpu", "gpu", ...TIERS),
  first: fc.nat({ max: HANDLES - 1 }),
  count: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: HANDLES })),
  times: fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, fc.integer({ min: 2, max: 6 })),
});

const keyOf = (handle: number): bigint => BigInt((handle % KEYS) + 5000);

/** Applies one operation to both, and compares what they answer. */
export function apply(
  { kind, holder, tier, first, count, times }: Operation,
  {
    residency,
    plain,
    seq,
    names,
  }: {
    residency: Residency;
    plain: MemoryResidency;
    seq: number;
    /** Null: nobody names rows. */
    names: RowNames | null;
  },
): void {
  const numbers = Array.from(
    { length: Math.min(count, HANDLES - first) },
    (_, each) => first + each,
  );
  const handles = BigUint64Array.from(numbers, BigInt);
  const keys = BigUint64Array.from(numbers, keyOf);
  if (kind === "forget") {
    residency.forget(holder);
    plain.forget(holder);
    return;
  }
  for (let time = 0; time < times; time += 1) {
    if (kind === "store") {
      const rows = names?.stored(holder, handles);
      const named = rows === undefined ? {} : { rows };
      expect(residency.stored(holder, tier, handles, keys, named)).toBe(0);
      plain.stored(holder, tier, handles, keys);
    }
    if (kind === "remove") {
      const unknown = plain.removed(holder, tier, handles);
      const rows = names?.removed(holder, handles);
      expect(residency.removed(holder, tier, handles, rows)).toBe(unknown);
      names?.settle(holder, residency);
    }
  }
  if (kind === "share") {
    const shared = keys.subarray(0, 3);
    residency.ambiguous(holder, shared);
    plain.ambiguous(holder, shared);
  }
  if (kind === "restart") {
    residency.startAnew(holder);
    plain.startAnew(holder);
  }
  if (kind === "clear") {
    residency.cleared(holder);
    plain.cleared(holder);
  }
  names?.settle(holder, residency);
  const cursor: HolderCursor = {
    ...{ state: "EXACT", reason: null, epoch: 1, seq, engineMs: 5 },
    ...{ blockSizesTokens: tier === "cpu" ? [] : [16], model: "m", ignoredGroups: [] },
  };
  residency.setCursor(holder, cursor);
  plain.setCursor(holder, cursor);
}

/** Compares all that both know, the index included. */
export function compare(
  { residency, index }: { residency: Residency; index: MemoryIndex },
  plain: MemoryResidency,
): void {
  for (const holder of HOLDERS) {
    const blocks = [...residency.records(holder)].map(
      ([handle, { key, copies }]) => `${handle}: ${key} ${copies}`,
    );
    expect(blocks.sort()).toEqual(plain.blocksOf(holder));
    expect(residency.blocksOf(holder)).toBe(blocks.length);
    expect([...residency.ambiguousKeys(holder)].sort()).toEqual(plain.ambiguousOf(holder));
    const totals = [...residency.records(holder)].map(
      ([handle, { key, copies }]) => `${handle}: ${key} ${copies.reduce((a, b) => a + b, 0)}`,
    );
    const rows: string[] = [];
    for (const { handles, keys, copies } of residency.heldRows(holder)) {
      for (const [at, handle] of handles.entries())
        rows.push(`${handle}: ${keys[at]} ${copies[at]}`);
    }
    expect(rows).toEqual(totals);
    expect(residency.cursorOf(holder)).toEqual(plain.cursorOf(holder));
  }
  for (let handle = 0; handle < KEYS; handle += 1) {
    const key = blockKey(keyOf(handle));
    const entries = index
      .residency(key)
      .map(({ holder, tier }) => `${holderName(holder)} ${tier}`)
      .sort();
    expect(entries).toEqual(plain.entriesOf(key, HOLDERS));
  }
}
