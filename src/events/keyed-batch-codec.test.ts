import { Encoder } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { endpointId, RANK_MAX } from "../core/ids.ts";
import { TIERS } from "../tiers/tier.ts";
import { type KeyedBatch, type KeyedEvent, LOSS_REASONS } from "./keyed-batch.ts";
import { decodeKeyedBatches, encodedBytesMax, encodeKeyedBatches } from "./keyed-batch-codec.ts";

const encoder = new Encoder();
const endpoint = endpointId("[fe80::1]:8000");

const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const wordPairs = fc.array(fc.tuple(word, word), { maxLength: 20 });
const tier = fc.constantFrom(...TIERS);
const event: fc.Arbitrary<KeyedEvent> = fc.oneof(
  fc.record({ tier, wordPairs, size: fc.integer({ min: 0, max: 4096 }) }).map(
    ({ tier, wordPairs, size }): KeyedEvent => ({
      type: "stored",
      tier,
      handles: BigUint64Array.from(wordPairs, ([handle]) => handle),
      keys: BigUint64Array.from(wordPairs, ([, key]) => key),
      blockSizeTokens: size,
    }),
  ),
  fc.record({ tier, words: fc.array(word, { maxLength: 20 }) }).map(
    ({ tier, words }): KeyedEvent => ({
      type: "removed",
      tier,
      handles: BigUint64Array.from(words),
    }),
  ),
  fc.constant<KeyedEvent>({ type: "cleared" }),
  fc.boolean().map((isNote): KeyedEvent => ({ type: "catching-up", isNote })),
  fc.constantFrom(...LOSS_REASONS).map((reason): KeyedEvent => ({ type: "lost", reason })),
);
const batch: fc.Arbitrary<KeyedBatch> = fc.record({
  holder: fc.record({
    endpointId: fc.constant(endpoint),
    rank: fc.integer({ min: 0, max: RANK_MAX }),
  }),
  model: fc.string({ unit: "binary", maxLength: 60 }),
  epoch: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  seq: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  engineMs: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  events: fc.array(event, { maxLength: 8 }),
});

const refusal = { ok: false, reason: "malformed-log-message" };

describe("log messages", () => {
  it("give back what was written, and need no more bytes than was said", () => {
    fc.assert(
      fc.property(fc.array(batch, { maxLength: 5 }), (batches) => {
        const data = encodeKeyedBatches(endpoint, batches);
        expect(decodeKeyedBatches(data)).toEqual({ ok: true, value: batches });
        const bytesMax = batches.reduce((bytes, each) => bytes + encodedBytesMax(each), 0);
        expect(data.length).toBeLessThanOrEqual(bytesMax + 300);
      }),
    );
  });

  it("are read at their own place in a larger buffer", () => {
    const one = { type: "removed", tier: "gpu", handles: BigUint64Array.of(5n) } as const;
    const holder = { endpointId: endpoint, rank: 0 };
    const batches = [{ holder, model: "m", epoch: 1, seq: 0, engineMs: 0, events: [one] }];
    const data = encodeKeyedBatches(endpoint, batches);
    const shifted = new Uint8Array(data.length + 3);
    shifted.set(data, 3);
    expect(decodeKeyedBatches(shifted.subarray(3))).toEqual({ ok: true, value: batches });
  });

  it("write parts of larger arrays as they are", () => {
    const words = BigUint64Array.of(1n, 2n, 3n).subarray(1, 2);
    const stored = { type: "stored", tier: "cpu", handles: words, keys: words } as const;
    const events = [{ ...stored, blockSizeTokens: 16 }];
    const holder = { endpointId: endpoint, rank: 0 };
    const batches = [{ holder, model: "m", epoch: 1, seq: 0, engineMs: 0, events }];
    expect(decodeKeyedBatches(encodeKeyedBatches(endpoint, batches))).toEqual({
      ok: true,
      value: batches,
    });
  });
});

describe("messages that kvatlas did not write", () => {
  const good = ["stored", "gpu", new Uint8Array(8), new Uint8Array(8), 16];
  const messageWith = (...events: unknown[]): unknown[] => [
    1,
    "10.0.0.1:8000",
    [[0, "m", 1, 0, 0, events]],
  ];
  const decode = (message: unknown): unknown => decodeKeyedBatches(encoder.encode(message));

  it("are refused whole, with the place of the fault", () => {
    expect(decode(messageWith(good))).toMatchObject({ ok: true });
    const bad = [
      null,
      {},
      [],
      [2, "10.0.0.1:8000", []],
      [1, "nowhere", []],
      [1, "10.0.0.1:8000", [[0, "m", 1, 0, 0]]],
      [1, "10.0.0.1:8000", [[-1, "m", 1, 0, 0, []]]],
      [1, "10.0.0.1:8000", [[RANK_MAX + 1, "m", 1, 0, 0, []]]],
      [1, "10.0.0.1:8000", [[0, "m", 0, 0, 0, []]]],
      [1, "10.0.0.1:8000", [[0, "m", 1, -2, 0, []]]],
      [1, "10.0.0.1:8000", [[0, "m", 1, 0.5, 0, []]]],
      [1, "10.0.0.1:8000", [[0, "m", 1, 0, Number.NaN, []]]],
      messageWith(["stored", "tape", new Uint8Array(8), new Uint8Array(8), 16]),
      messageWith(["stored", "gpu", new Uint8Array(8), new Uint8Array(16), 16]),
      messageWith(["stored", "gpu", new Uint8Array(7), new Uint8Array(7), 16]),
      messageWith(["stored", "gpu", "text", "text", 16]),
      messageWith(["stored", "gpu", new Uint8Array(8), new Uint8Array(8), 1_000_000]),
      messageWith(["removed", "gpu"]),
      messageWith(["cleared", 1]),
      messageWith(["lost", "mislaid"]),
      messageWith(["moved"]),
      messageWith({ type: "cleared" }),
    ];
    for (const message of bad)
      expect(decode(message), JSON.stringify(message)).toMatchObject(refusal);
  });

  it("cost no memory by claiming millions of elements inside each other", () => {
    const claims = Array.from({ length: 2000 }, () => [0xdd, 0x00, 0x10, 0x00, 0x00]).flat();
    const before = process.memoryUsage().rss;
    expect(decodeKeyedBatches(Uint8Array.from(claims))).toMatchObject(refusal);
    expect(process.memoryUsage().rss - before).toBeLessThan(200_000_000);
    expect(decodeKeyedBatches(new Uint8Array(100_000).fill(0x91))).toMatchObject(refusal);
  });

  it("give a result whatever their bytes", () => {
    const change = fc.record({ at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) });
    fc.assert(
      fc.property(
        fc.array(batch, { minLength: 1, maxLength: 3 }),
        fc.array(change, { maxLength: 6 }),
        fc.nat(),
        (batches, changes, cut) => {
          const data = Uint8Array.from(encodeKeyedBatches(endpoint, batches));
          for (const { at, byte } of changes) data[at % data.length] = byte;
          const decoded = decodeKeyedBatches(data);
          if (decoded.ok)
            for (const { seq } of decoded.value) expect(seq).toBeGreaterThanOrEqual(0);
          expect(decodeKeyedBatches(data.subarray(0, cut % data.length))).toMatchObject(refusal);
        },
      ),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (data) => {
        expect(decodeKeyedBatches(data).ok).toBe(false);
      }),
    );
  });
});
