import { Encoder } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { changedBytes } from "../../test/harness/changed-bytes.ts";
import { goldenNames, loadMessages } from "../../test/harness/golden.ts";
import { madeBatch } from "../../test/harness/made-batch.ts";
import { encodedAnyhow } from "../../test/harness/msgpack-forms.ts";
import { seededRandom } from "../core/random.ts";
import { scanBatch } from "./event-scan.ts";
import { EVENTS_MAX } from "./kv-event.ts";
import { decodeAnySglangBatch, decodeSglangBatch } from "./sglang-decoder.ts";
import { decodeAnyVllmBatch, decodeVllmBatch } from "./vllm-decoder.ts";

const TS_MAX = 8_640_000_000_000;
const ARRAYS = { storedFieldsMax: 12, removedFieldsMax: 4 };
const encoder = new Encoder({ useBigInt64: true });
const payloads = [...goldenNames("vllm"), ...goldenNames("sglang")].flatMap((name) =>
  loadMessages(name).map(({ payload }) => payload),
);

function made(decoded: ReturnType<typeof decodeVllmBatch>): unknown {
  return decoded.ok ? { ...decoded, value: madeBatch(decoded.value) } : decoded;
}

function expectSame(payload: Uint8Array): void {
  expect(made(decodeVllmBatch(payload))).toStrictEqual(decodeAnyVllmBatch(payload));
  expect(made(decodeSglangBatch(payload))).toStrictEqual(decodeAnySglangBatch(payload));
}

describe("scan of common forms", () => {
  it("reads most captures of real engines, and as the general decoder does", () => {
    for (const payload of payloads) expectSame(payload);
    const scanned = payloads.filter((payload) => scanBatch(payload, ARRAYS, TS_MAX) !== null);
    // Left are pairs of tokens (EAGLE) alone.
    expect(scanned.length).toBe(payloads.length - 1);
  });

  it("says what the general decoder says of payloads cut anywhere or with bytes behind", () => {
    const whole = [...payloads].sort((a, b) => a.length - b.length)[8] ?? new Uint8Array(0);
    for (let end = 0; end <= whole.length; end += 1) expectSame(whole.subarray(0, end));
    expectSame(Uint8Array.from([...whole, 0xc0]));
    // Out of the middle of a larger buffer, as sockets hand them over.
    const larger = Buffer.concat([Buffer.from([1, 2, 3]), whole, Buffer.from([4])]);
    expectSame(larger.subarray(3, 3 + whole.length));
  });

  it("says what the general decoder says of every byte changed to every head", () => {
    const heads = [0, 0x7f, 0x80, 0x90, 0x91, 0xa0, 0xa3, 0xc0, 0xc1, 0xc2, 0xc4, 0xca, 0xcb, 0xcc];
    heads.push(0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd9, 0xda, 0xdc, 0xdd, 0xde, 0xff);
    const small = [...payloads].sort((a, b) => a.length - b.length).slice(0, 3);
    for (const payload of small) {
      for (let at = 0; at < payload.length; at += 1) {
        for (const head of heads) {
          const changed = Uint8Array.from(payload);
          changed[at] = head;
          expectSame(changed);
        }
      }
    }
  });

  it("says what the general decoder says of golden payloads changed anyhow", () => {
    fc.assert(
      fc.property(changedBytes(payloads, 4), (changed) => expectSame(changed)),
      { numRuns: 1000 },
    );
  });

  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  const plainMost = fc.constantFrom(2n ** 53n, -(2n ** 53n), 2n ** 53n + 1n);
  const hash = fc.oneof(u64, i64, plainMost, fc.integer(), fc.uint8Array({ maxLength: 40 }));
  const count = fc.oneof(fc.nat({ max: 300 }), fc.integer(), fc.double(), u64, fc.constant(null));
  const text = fc.oneof(fc.constantFrom("GPU", "cpu", "é", ""), fc.string(), fc.constant(null));
  const single = fc.oneof(text, i64, fc.integer(), fc.uint8Array({ maxLength: 9 }), fc.double());
  const extra = fc.oneof(single, fc.array(single, { maxLength: 3 }));
  const ofBlock = fc.oneof(fc.constant(["sql"]), fc.array(extra, { maxLength: 3 }));
  const extras = fc.option(fc.array(fc.option(ofBlock), { maxLength: 4 }));
  const values = {
    block_hashes: fc.array(hash, { maxLength: 4 }),
    parent_block_hash: fc.option(hash),
    token_ids: fc.array(fc.oneof({ weight: 30, arbitrary: fc.nat() }, count), { maxLength: 40 }),
    block_size: count,
    lora_id: count,
    medium: text,
    lora_name: text,
    extra_keys: extras,
    group_idx: count,
    kv_cache_spec_kind: text,
    kv_cache_spec_sliding_window: count,
  };
  const tag = fc.constantFrom("BlockStored", "BlockRemoved", "AllBlocksCleared", "BlockMoved");
  const ofMaps = { cache_salt: text, session_id: text, locality: text, ownership: count };
  const asMap = fc.record(
    { type: tag, ...values, ...ofMaps, colour: text },
    { requiredKeys: ["type"] },
  );
  const asArray = fc
    .tuple(tag, ...Object.values(values), text)
    .chain((fields) => fc.nat({ max: 12 }).map((length) => fields.slice(0, length)));
  const asRemoval = fc.tuple(fc.constant("BlockRemoved"), values.block_hashes, text, count);

  it("says what the general decoder says of made-up batches", () => {
    const event = fc.oneof(asMap, asArray, asRemoval);
    const batch = fc.tuple(
      fc.oneof(fc.double(), fc.nat()),
      fc.array(event, { maxLength: 3 }),
      count,
    );
    fc.assert(
      fc.property(batch, fc.integer({ min: 1, max: 3 }), fc.nat(), (fields, length, seed) => {
        const told = fields.slice(0, length);
        expectSame(encoder.encode(told));
        expectSame(encodedAnyhow(told, seededRandom(seed)));
      }),
      { numRuns: 1000 },
    );
  });

  /** Integers of each width alike; `msgpack` writes the shortest. */
  const widths = fc.oneof(
    ...[0x7f, 0xff, 0xffff, 0xffff_ffff].map((max) => fc.integer({ min: 0, max })),
  );
  const usual = fc.oneof(fc.integer({ min: 256, max: 151_935 }));

  it("leaves the longer forms to the general decoder, which reads them alike", () => {
    const parent = fc.option(u64);
    const ids = fc.array(widths, { maxLength: 20 });
    const size = fc.nat({ max: 4096 });
    const stored = fc.tuple(fc.constant("BlockStored"), fc.array(u64), parent, ids, size);
    const removed = fc.tuple(fc.constant("BlockRemoved"), fc.array(u64));
    const batch = fc.tuple(fc.nat(), fc.array(fc.oneof(stored, removed)), fc.nat({ max: 1023 }));
    fc.assert(
      fc.property(batch, fc.nat(), (told, seed) => {
        const payload = encodedAnyhow(told, seededRandom(seed));
        expectSame(payload);
        expect(made(decodeVllmBatch(payload))).toEqual(decodeAnyVllmBatch(encoder.encode(told)));
      }),
      { numRuns: 500 },
    );
  });

  it("reads token ids and hashes of every width, in lists of every length", () => {
    const tokens = fc.array(fc.oneof({ weight: 9, arbitrary: usual }, widths), { maxLength: 300 });
    const hashes = fc.array(fc.oneof(u64, i64, fc.uint8Array({ minLength: 8, maxLength: 40 })));
    fc.assert(
      fc.property(fc.array(fc.tuple(tokens, hashes), { maxLength: 4 }), (lists) => {
        const events = lists.map(([ids, handles]) => ["BlockStored", handles, null, ids, 16, null]);
        const payload = encoder.encode([0.5, events, 0]);
        // The encoder writes some negative hashes in fewer bytes, which are the general decoder's.
        const isUsual = lists.every(([, handles]) =>
          handles.every((each) => typeof each !== "bigint" || each >= 0n || each < -(2n ** 31n)),
        );
        if (isUsual) expect(scanBatch(payload, ARRAYS, TS_MAX)).not.toBeNull();
        expectSame(payload);
      }),
      { numRuns: 500 },
    );
  });

  it("leaves messages beyond its limits to the general decoder", () => {
    const removal = ["BlockRemoved", [1n]];
    const many = (count: number): Uint8Array =>
      encoder.encode([0.5, new Array(count).fill(removal), 0]);
    expect(scanBatch(many(EVENTS_MAX), ARRAYS, TS_MAX)?.events.length).toBe(EVENTS_MAX);
    expect(scanBatch(many(EVENTS_MAX + 1), ARRAYS, TS_MAX)).toBeNull();
    expect(decodeVllmBatch(many(EVENTS_MAX + 1))).toMatchObject({ reason: "oversized" });
    const longs = (count: number): Uint8Array =>
      encoder.encode([0.5, [["BlockStored", [1n], null, new Array(count).fill(7), 16, null]], 0]);
    expect(scanBatch(longs(1_000_000), ARRAYS, TS_MAX)).not.toBeNull();
    expect(scanBatch(longs(1_100_000), ARRAYS, TS_MAX)).toBeNull();
    expect(decodeVllmBatch(longs(1_100_000)).ok).toBe(true);
    expect(decodeVllmBatch(longs(2_700_000))).toMatchObject({ reason: "oversized" });
    expect(scanBatch(new Uint8Array(4_194_305), ARRAYS, TS_MAX)).toBeNull();
  });

  it("tells each block's extras apart, however alike they are to the last ones", () => {
    const names = [["a"], ["a"], ["b"], ["a", null], null, ["c", 1], ["a"]];
    const events = names.map((extra) => [
      ...["BlockStored", [1n], null, [7, 8], 2, 5, "GPU", "a"],
      [extra],
    ]);
    const batch = scanBatch(encoder.encode([0.5, events, 0]), ARRAYS, TS_MAX);
    const read = batch?.events.map((event) => event.type === "stored" && event.extraKeys);
    expect(read).toEqual(names.map((extra) => [extra]));
    // The bytes that they were read from are another message's by now.
    const reused = Buffer.from(encoder.encode([0.5, [events[0]], 0]));
    const first = scanBatch(reused, ARRAYS, TS_MAX);
    reused.fill(0x62);
    expect(scanBatch(encoder.encode([0.5, [events[0]], 0]), ARRAYS, TS_MAX)).toEqual(first);
  });

  it("says what the general decoder says of text that ends inside a character", () => {
    const event = ["BlockStored", [1n], null, [7], 1, 5, "GPU", "a", [["abc"]]];
    const payload = Buffer.from(encoder.encode([0.5, [event, event], 0]));
    for (const byte of [0xc3, 0xe2, 0xf0]) {
      const cut = Buffer.from(payload);
      cut[payload.lastIndexOf("abc") + 2] = byte;
      expectSame(cut);
      cut[payload.indexOf("abc") + 2] = byte;
      expectSame(cut);
    }
  });

  it("leaves what it read alone when it reads on", () => {
    const event = (seed: number): unknown[] => [
      "BlockStored",
      [BigInt(seed)],
      null,
      new Array(40).fill(seed),
      40,
      null,
    ];
    const read = [1, 2, 3].map((seed) => {
      return scanBatch(encoder.encode([0.5, [event(seed), event(seed + 10)], 0]), ARRAYS, TS_MAX);
    });
    const stored = read.flatMap((batch) => batch?.events ?? []);
    expect(stored).toMatchObject(
      [1, 11, 2, 12, 3, 13].map((seed) => ({
        handles: BigUint64Array.of(BigInt(seed)),
        tokens: new Uint32Array(40).fill(seed),
      })),
    );
  });
});
