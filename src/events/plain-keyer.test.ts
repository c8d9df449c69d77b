import { Encoder } from "@msgpack/msgpack";
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import { madeBatch } from "../../test/harness/made-batch.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { HolderKeyer } from "./holder-keyer.ts";
import type { KeyedEvent } from "./keyed-batch.ts";
import type { KvEventBatch } from "./kv-event.ts";
import { PlainBatch } from "./plain-batch.ts";
import { decodeAnyVllmBatch, decodeVllmBatch } from "./vllm-decoder.ts";

const encoder = new Encoder({ useBigInt64: true });
let hasher: BlockHasher;

beforeAll(async () => {
  hasher = await createBlockHasher(7);
});

function decoded(result: ReturnType<typeof decodeVllmBatch>): KvEventBatch {
  if (!result.ok) throw new Error(result.detail);
  return result.value;
}

/** A run makes its arrays when they are asked for. */
function fieldsOf(event: KeyedEvent): KeyedEvent {
  if (event.type !== "stored") return event;
  const { type, tier, handles, keys, blockSizeTokens, parents, rows } = event;
  return {
    type,
    tier,
    handles,
    keys,
    blockSizeTokens,
    ...(parents && { parents }),
    ...(rows && { rows }),
  };
}

/** Handles are few, so that they come again: with other tokens, after removal, as parents, unknown. */
const handle = fc.nat({ max: 11 }).map((number) => BigInt(number) * 0x9e37_79b9_7f4an);
const medium = fc.constantFrom("GPU", "GPU", "GPU", null, "CPU", "DISK");
const group = fc.constantFrom(null, null, 0, 0, 1, 2);
const stored = fc
  .record({
    handles: fc.array(handle, { maxLength: 4 }),
    parent: fc.option(handle, { freq: 2 }),
    token: fc.nat({ max: 2 }),
    size: fc.constantFrom(2, 2, 2, 3, 8, 16),
    medium,
    lora: fc.constantFrom(null, null, null, "sql"),
    extras: fc.constantFrom(null, null, [], ["salt"]),
    group,
    kind: fc.constantFrom(null, "full_attention", "full_attention", "sliding_window", "other"),
    missing: fc.constantFrom(0, 0, 0, 1),
  })
  .map((each) => {
    const { handles, parent, token, size, lora, extras, missing, kind } = each;
    const tokens = new Array<number>(handles.length * size - Math.min(missing, handles.length));
    const perBlock =
      extras === null ? null : handles.map(() => (extras.length > 0 ? extras : null));
    const fields = [handles, parent, tokens.fill(token), size, null, each.medium, lora, perBlock];
    return ["BlockStored", ...fields, each.group, kind];
  });
const removed = fc
  .tuple(fc.array(handle, { maxLength: 4 }), medium, group)
  .map(([handles, ...rest]) => ["BlockRemoved", handles, ...rest]);
const cleared = fc.constant<unknown[]>(["AllBlocksCleared"]);
const weighted = (
  arbitrary: fc.Arbitrary<unknown[]>,
  weight: number,
): fc.WeightedArbitrary<unknown[]> => ({
  arbitrary,
  weight,
});
/** Neighbours are often of one kind: they differ in little, as those of one step do. */
const alike = fc
  .tuple(stored, fc.array(fc.tuple(handle, fc.option(handle, { freq: 2 })), { maxLength: 5 }))
  .map(([first, others]) => [
    first,
    ...others.map(([own, parent]) => {
      const [tag, , , , size, ...rest] = first;
      return [tag, [own], parent, new Array(Number(size)).fill(1), size, ...rest];
    }),
  ]);
const event = fc.oneof(weighted(stored, 4), weighted(removed, 4), weighted(cleared, 1));
const message = fc.oneof(fc.array(event, { maxLength: 6 }), alike);

it("keys plain messages where they lie as it does their events", () => {
  let plain = 0;
  fc.assert(
    fc.property(fc.array(message, { maxLength: 25, size: "max" }), (messages) => {
      const [keyer, oracle] = [0, 1].map(() => new HolderKeyer({ model: "m", hasher }));
      for (const [number, events] of messages.entries()) {
        const payload = encoder.encode([number + 0.5, events, 0]);
        const batch = decoded(decodeVllmBatch(payload));
        if (batch instanceof PlainBatch) plain += 1;
        const keyed = keyer?.keyEvents(batch);
        const expected = oracle?.keyEvents(decoded(decodeAnyVllmBatch(payload)));
        expect(keyed?.map(fieldsOf)).toEqual(expected?.map(fieldsOf));
        expect(keyer?.takeLeftOut()).toEqual(oracle?.takeLeftOut());
      }
    }),
    { numRuns: 400 },
  );
  expect(plain).toBeGreaterThan(100);
});

it("counts copies exactly however many, stored and removed in runs", () => {
  const keyer = new HolderKeyer({ model: "m", hasher });
  const store = ["BlockStored", [1n, 2n], null, [1, 2, 3, 4], 2, null, "GPU"];
  const remove = ["BlockRemoved", [2n], "GPU"];
  const key = (events: unknown[]): unknown[] =>
    keyer.keyEvents(decoded(decodeVllmBatch(encoder.encode([1.5, events, 0]))));
  for (let message = 0; message < 100; message += 1) key([store, store, store]);
  for (let message = 0; message < 99; message += 1) key([remove, remove, remove]);
  const child = ["BlockStored", [3n], 2n, [5, 6], 2, null, "GPU"];
  const before = key([child]);
  key([remove, remove]);
  expect(key([["BlockStored", [2n], 1n, [9, 9], 2, null, "GPU"]])).toMatchObject([
    { type: "stored", handles: BigUint64Array.of(2n) },
  ]);
  key([remove, remove]);
  expect(key([remove])).toMatchObject([{ type: "removed", rows: Uint32Array.of(0xffff_ffff) }]);
  // Its tombstone still tells the key that children follow from.
  expect(key([["BlockStored", [4n], 2n, [5, 6], 2, null, "GPU"]])).toMatchObject([
    { type: "stored", keys: (before[0] as { keys: BigUint64Array }).keys },
  ]);
});

it("makes the events of a message that is still held when the next one is scanned", () => {
  const payloads = [1n, 2n, 3n].map((each) =>
    encoder.encode([1.5, [["BlockStored", [each], null, [1, Number(each)], 2, null, "GPU"]], 0]),
  );
  const batches = payloads.map((payload) => decoded(decodeVllmBatch(payload)));
  expect(batches.every((batch) => batch instanceof PlainBatch)).toBe(true);
  expect(batches.map(madeBatch)).toEqual(
    payloads.map((payload) => decoded(decodeAnyVllmBatch(payload))),
  );
});
