import { Encoder } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { goldenNames, loadMessages } from "../../test/harness/golden.ts";
import { decodeAnyVllmBatch, decodeVllmBatch } from "./vllm-decoder.ts";
import { scanVllmBatch } from "./vllm-scan.ts";

const TS_MAX = 8_640_000_000_000;
const encoder = new Encoder({ useBigInt64: true });
const payloads = goldenNames("vllm").flatMap((name) =>
  loadMessages(name).map(({ payload }) => payload),
);

function expectSame(payload: Uint8Array): void {
  expect(decodeVllmBatch(payload)).toStrictEqual(decodeAnyVllmBatch(payload));
}

describe("scan of vLLM's common forms", () => {
  it("reads most captures of real engines, and as the general decoder does", () => {
    for (const payload of payloads) expectSame(payload);
    const scanned = payloads.filter((payload) => scanVllmBatch(payload, TS_MAX) !== null);
    expect(scanned.length / payloads.length).toBeGreaterThan(0.8);
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
    const change = fc.record({
      at: fc.nat(),
      byte: fc.integer({ min: 0, max: 255 }),
      kind: fc.constantFrom("change", "insert", "cut"),
    });
    const mutated = fc.tuple(
      fc.constantFrom(...payloads),
      fc.array(change, { minLength: 1, maxLength: 4 }),
    );
    fc.assert(
      fc.property(mutated, ([payload, changes]) => {
        const bytes = [...payload];
        for (const { at, byte, kind } of changes) {
          const place = at % bytes.length;
          if (kind === "insert") bytes.splice(place, 0, byte);
          else if (kind === "cut") bytes.splice(place, 1);
          else bytes[place] = byte;
        }
        expectSame(Uint8Array.from(bytes));
      }),
      { numRuns: 1000 },
    );
  });

  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  const hash = fc.oneof(u64, i64, fc.integer(), fc.uint8Array({ maxLength: 40 }));
  const count = fc.oneof(fc.nat({ max: 300 }), fc.integer(), fc.double(), u64, fc.constant(null));
  const text = fc.oneof(fc.constantFrom("GPU", "cpu", "é", ""), fc.string(), fc.constant(null));
  const extras = fc.option(fc.array(fc.option(fc.array(text)), { maxLength: 3 }));
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
  };
  const tag = fc.constantFrom("BlockStored", "BlockRemoved", "AllBlocksCleared", "BlockMoved");
  const asMap = fc.record({ type: tag, ...values, colour: text }, { requiredKeys: ["type"] });
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
      fc.property(batch, fc.integer({ min: 1, max: 3 }), (fields, length) => {
        expectSame(encoder.encode(fields.slice(0, length)));
      }),
      { numRuns: 1000 },
    );
  });
});
