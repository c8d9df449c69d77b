import { Encoder, ExtData } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import {
  type GoldenBatch,
  type GoldenEvent,
  goldenNames,
  handleOf,
  loadCapture,
} from "../../test/harness/golden.ts";
import { madeBatch } from "../../test/harness/made-batch.ts";
import type { KvEvent, KvEventBatch } from "./kv-event.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

const encoder = new Encoder({ useBigInt64: true });
const names = goldenNames("vllm");

/** The engine's own decoding, in the terms of kv-event.ts. */
function expectedBatch({ ts, data_parallel_rank, events }: GoldenBatch): unknown {
  return { ts, rank: data_parallel_rank, events: events.map(expectedEvent) };
}

function expectedEvent(event: GoldenEvent): unknown {
  const handles = BigUint64Array.from(event.block_hashes ?? [], handleOf);
  const { medium = null, group_idx: group = null } = event;
  if (event.type === "AllBlocksCleared") return { type: "cleared" };
  if (event.type === "BlockRemoved") return { type: "removed", handles, medium, group };
  const parent = event.parent_block_hash ?? null;
  return {
    type: "stored",
    handles,
    parent: parent === null ? null : handleOf(parent),
    tokens: Uint32Array.from(event.token_ids ?? []),
    blockSizeTokens: event.block_size,
    medium,
    loraName: event.lora_name ?? null,
    loraId: event.lora_id ?? null,
    extraKeys: event.extra_keys ?? null,
    group,
    specKind: event.kv_cache_spec_kind ?? null,
    // Offload events never tell extras: those with tokens are self-describing but for these.
    ...(medium === "CPU" && event.token_ids?.length ? { caveat: "no-identity" } : {}),
  };
}

function decode(payload: Uint8Array): KvEventBatch {
  const decoded = decodeVllmBatch(payload);
  if (!decoded.ok) throw new Error(`${decoded.reason}: ${decoded.detail}`);
  return madeBatch(decoded.value);
}

/** The events of a batch `[1.5, events, 0]`. */
function decodeEvents(...events: unknown[]): readonly KvEvent[] {
  return decode(encoder.encode([1.5, events, 0])).events;
}

const storedFields = ["BlockStored", [11n], null, [1, 2], 2, null, "GPU"] as const;
const storedMap = {
  type: "BlockStored",
  block_hashes: [12n],
  parent_block_hash: 11n,
  token_ids: [3, 4],
  block_size: 2,
  lora_id: null,
  medium: "GPU",
  lora_name: null,
};

describe("captures of real engines", () => {
  it.each(names)("%s decodes to what the engine's own decoder says", (name) => {
    const { messages, expected } = loadCapture(name);
    expect(messages.length).toBeGreaterThan(0);
    const decoded = messages.map(({ payload }) => decode(payload));
    expect(decoded).toEqual(expected.batches.map(expectedBatch));
  });

  it("cover arrays and maps, integer and byte hashes, adapters, salt, images, groups, offload", () => {
    const events = names.flatMap((name) => loadCapture(name).expected.batches);
    const stores = events.flatMap((batch) => batch.events);
    const has = (what: (event: GoldenEvent) => unknown): boolean => stores.some(what);
    expect(names.some((name) => name.startsWith("vllm-0.11.2/"))).toBe(true);
    expect(names.some((name) => name.startsWith("vllm-0.33.0/"))).toBe(true);
    expect(has(({ block_hashes }) => block_hashes?.[0]?.startsWith("0x"))).toBe(true);
    expect(has(({ lora_name }) => lora_name)).toBe(true);
    expect(has(({ extra_keys }) => extra_keys?.some((extras) => Array.isArray(extras?.[0])))).toBe(
      true,
    );
    expect(has(({ group_idx }) => group_idx === 1)).toBe(true);
    expect(has(({ medium, token_ids }) => medium === "CPU" && token_ids?.length === 0)).toBe(true);
  });
});

describe("events", () => {
  it("of both encodings may stand in one batch", () => {
    const removed = { type: "BlockRemoved", block_hashes: [11n], medium: "CPU" };
    expect(
      decodeEvents(storedFields, storedMap, ["BlockRemoved", [12n]], removed, ["AllBlocksCleared"]),
    ).toMatchObject([
      {
        type: "stored",
        handles: BigUint64Array.of(11n),
        parent: null,
        loraName: null,
        extraKeys: null,
      },
      { type: "stored", handles: BigUint64Array.of(12n), parent: 11n },
      { type: "removed", handles: BigUint64Array.of(12n), medium: null, group: null },
      { type: "removed", handles: BigUint64Array.of(11n), medium: "CPU" },
      { type: "cleared" },
    ]);
  });

  it("of unknown kind or bad shape are skipped, and the rest of the batch is kept", () => {
    const bad = [
      ["BlockMoved", [1n]],
      { type: "BlockMoved", block_hashes: [1n] },
      [],
      {},
      null,
      7,
      "BlockStored",
      ["BlockStored"],
      ["BlockRemoved", 5],
      ["BlockRemoved", ["text"]],
      ["BlockRemoved", [1.5]],
      ["BlockRemoved", [new Uint8Array(7)]],
      { ...storedMap, token_ids: [-1, 2] },
      { ...storedMap, token_ids: [0x1_0000_0000, 2] },
      { ...storedMap, token_ids: [[1, 2], 3] },
      { ...storedMap, block_size: -1 },
      { ...storedMap, block_size: 1_000_000 },
      { ...storedMap, medium: 3 },
      { ...storedMap, extra_keys: ["text"] },
      { ...storedMap, extra_keys: [[{ a: 1 }]] },
      { ...storedMap, extra_keys: [[new ExtData(5, Uint8Array.of(1))]] },
      { ...storedMap, extra_keys: [[Number.NaN]] },
    ];
    const events = decodeEvents(storedFields, ...bad, storedMap);
    expect(events.map(({ type }) => type)).toEqual([
      "stored",
      ...bad.map(() => "skipped"),
      "stored",
    ]);
    const reasons = events.flatMap((event) => (event.type === "skipped" ? [event.reason] : []));
    expect(reasons.slice(0, 3)).toEqual(["unknown-tag", "unknown-tag", "malformed-event"]);
  });

  it("keep what is known when fields of a later version are added", () => {
    const later = { ...storedMap, colour: "blue", nested: { deep: [{ er: 1 }] } };
    const laterFields = [...storedFields, null, [null], 0, "full_attention", null, "LOCAL", 9, 9];
    expect(decodeEvents(later, laterFields)).toMatchObject([
      { type: "stored", handles: BigUint64Array.of(12n) },
      {
        type: "stored",
        handles: BigUint64Array.of(11n),
        group: 0,
        specKind: "full_attention",
        extraKeys: [null],
      },
    ]);
  });

  it("say the same whatever form their integers are written in", () => {
    const text = (letters: string): number[] => [0xa0 | letters.length, ...Buffer.from(letters)];
    const long = (integer: number): number[] => [0xcf, 0, 0, 0, 0, 0, 0, 0, integer];
    const signed = (integer: number): number[] => [0xd3, 0, 0, 0, 0, 0, 0, 0, integer];
    const short = (integer: number): number[] => [integer];
    const payload = (form: (integer: number) => number[]): Uint8Array => {
      const lists = [[0x91, ...form(11)], form(10), [0x92, ...form(1), ...form(2)], form(2)];
      const scalars = [form(3), text("GPU"), [0xc0], [0x91, 0x91, ...form(7)], form(1)];
      const event = [0x9a, ...text("BlockStored"), ...[...lists, ...scalars].flat()];
      return Uint8Array.from([0x93, ...form(9), 0x91, ...event, ...form(5)]);
    };
    const batch = decode(payload(short));
    expect(batch).toMatchObject({ ts: 9, rank: 5, events: [{ loraId: 3, extraKeys: [[7]] }] });
    expect([decode(payload(long)), decode(payload(signed))]).toEqual([batch, batch]);
  });

  it("with unknown fields whose names are no text are read all the same", () => {
    const text = (letters: string): number[] => [0xa0 | letters.length, ...Buffer.from(letters)];
    for (const name of [[0xc0], [0xc4, 1, 97], [0x05], [0x91, 0x01], text("__proto__")]) {
      const event = [0x83, ...text("type"), ...text("BlockRemoved"), ...name, 0x81, 0xc0, 0xc0];
      const list = [...text("block_hashes"), 0x91, 0x0b];
      const batch = [0x92, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x91, ...event, ...list];
      expect(decode(Uint8Array.from(batch)).events).toMatchObject([
        { type: "removed", handles: BigUint64Array.of(11n) },
      ]);
    }
  });

  it("whose numbers no index takes are skipped, and kept as they were sent", () => {
    const sent = (fields: object): unknown => {
      const [event] = decodeEvents({ ...storedMap, ...fields });
      return event?.type === "skipped" ? event.sent : event?.type;
    };
    const list = (...tokens: bigint[]): unknown => sent({ token_ids: tokens });
    expect(list(-1n, 2n)).toMatchObject({ tokens: [-1, 2], blockSizeTokens: 2 });
    expect(list(2n ** 32n)).toMatchObject({ tokens: [2 ** 32] });
    expect(list(2n ** 53n + 1n)).toMatchObject({ tokens: [2n ** 53n + 1n] });
    for (const blockSizeTokens of [-1, 2 ** 31, 2n ** 63n]) {
      const told = { tokens: [3, 4], blockSizeTokens, parent: 11n, medium: "GPU" };
      expect(sent({ block_size: blockSizeTokens })).toMatchObject(told);
    }
    expect(sent({ lora_id: -7, group_idx: -1 })).toMatchObject({ loraId: -7, group: -1 });
    expect(sent({ group_idx: 2n ** 63n })).toMatchObject({ group: 2n ** 63n });
    for (const fields of [{ token_ids: [1.5, 2] }, { block_size: null }, { block_size: 1.5 }]) {
      expect(sent(fields)).toBeUndefined();
    }
    for (const fields of [{ lora_id: "a" }, { group_idx: 0.5 }, { group_idx: [] }]) {
      expect(sent({ ...fields, token_ids: [-1] })).toBeUndefined();
    }
  });

  it("keep extras of any scalar, and take a float for no integer", () => {
    const extra_keys = [[true, false, 0.25, -1, null, "a", 2n ** 63n]];
    expect(decodeEvents({ ...storedMap, extra_keys })).toMatchObject([{ extraKeys: extra_keys }]);
    const one = Buffer.from(encoder.encode([1.5, [{ ...storedMap, extra_keys: [[0.5]] }], null]));
    one.writeDoubleBE(1, one.lastIndexOf(0xcb) + 1);
    expect(decode(one).events).toEqual([{ type: "skipped", reason: "malformed-event" }]);
  });

  it("of an adapter whose id takes 64 bits keep it whole", () => {
    for (const loraId of [2n ** 53n + 1n, 2n ** 60n + 1n, 2n ** 64n - 1n]) {
      const events = decodeEvents([...storedFields.slice(0, 5), loraId], {
        ...storedMap,
        lora_id: loraId,
      });
      expect(events).toMatchObject([{ loraId }, { loraId }]);
    }
    for (const loraId of [2 ** 40, 2 ** 53]) {
      const event = [...storedFields.slice(0, 5), BigInt(loraId)];
      expect(decodeEvents(event)).toMatchObject([{ loraId }]);
    }
    expect(decodeEvents([...storedFields.slice(0, 5), -(2n ** 40n)])).toMatchObject([
      { type: "skipped", sent: { loraId: -(2 ** 40) } },
    ]);
  });

  it("carry a parent of any value", () => {
    for (const parent of [0n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n, -1n, -(2n ** 53n)]) {
      const event = { ...storedMap, parent_block_hash: parent };
      const stored = [{ type: "stored", parent: BigInt.asUintN(64, parent) }];
      expect(decodeEvents(event)).toMatchObject(stored);
      // With a field that the scan does not know.
      expect(decodeEvents({ ...event, colour: "blue" })).toMatchObject(stored);
    }
  });

  it("carry hashes of any width as their low 64 bits", () => {
    const tail = [0xff, 2, 3, 4, 5, 6, 7, 8];
    const hashes = [
      -1n,
      -(2n ** 63n),
      2n ** 64n - 1n,
      5,
      -5,
      Uint8Array.from(tail),
      Uint8Array.from([...new Array(8).fill(9), ...tail]),
      Uint8Array.from([...new Array(24).fill(7), ...tail]),
    ];
    expect(decodeEvents(["BlockRemoved", hashes])).toEqual([
      {
        type: "removed",
        handles: BigUint64Array.of(
          2n ** 64n - 1n,
          2n ** 63n,
          2n ** 64n - 1n,
          5n,
          2n ** 64n - 5n,
          0xff02030405060708n,
          0xff02030405060708n,
          0xff02030405060708n,
        ),
        medium: null,
        group: null,
      },
    ]);
  });
});
