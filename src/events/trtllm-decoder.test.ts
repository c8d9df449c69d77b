import { describe, expect, it } from "vitest";
import { eventSamples, jsonPayload, trtllmBlock } from "../../test/harness/event-samples.ts";
import { mutatePayload } from "../../test/harness/mutate.ts";
import { seededRandom } from "../core/random.ts";
import type { KvEvent } from "./kv-event.ts";
import { PARTIAL_BLOCKS_MAX, TrtllmDecoder } from "./trtllm-decoder.ts";

const TOKENS = Array.from({ length: 32 }, (_, position) => position + 1);
const HASH = "17302193203112421310";

const stored = (parent: string, ...blocks: string[]): string =>
  `{"type":"stored","parent_hash":${parent},"blocks":[${blocks.join(",")}]}`;
const removed = (...hashes: string[]): string =>
  `{"type":"removed","block_hashes":[${hashes.join(",")}]}`;
const moved = (hash: string, from: number, to: number): string =>
  `{"type":"updated","block_hash":${hash},"cache_level":{"type":"event_diff","new_value":${to},"old_value":${from}}}`;

function decode(decoder: TrtllmDecoder, data: string, more = ""): readonly KvEvent[] {
  const decoded = decoder.decode(jsonPayload(`{"event_id":0,"data":${data}${more}}`));
  if (!decoded.ok) throw new Error(`${decoded.reason}: ${decoded.detail}`);
  return decoded.value.events;
}

describe("stores", () => {
  it("keep all bits of a hash beyond 2^53, and take hex hashes", () => {
    const hex = `"${"0".repeat(48)}ff02030405060708"`;
    const events = decode(
      new TrtllmDecoder(),
      stored("9007199254740993", trtllmBlock(HASH, TOKENS), trtllmBlock(hex, TOKENS)),
    );
    expect(events).toMatchObject([
      {
        type: "stored",
        parent: 9007199254740993n,
        handles: BigUint64Array.of(17302193203112421310n, 0xff02030405060708n),
        tokens: Uint32Array.from([...TOKENS, ...TOKENS]),
        blockSizeTokens: 32,
        medium: "GPU",
      },
    ]);
  });

  it("leave out a block that is not full, and its removal", () => {
    const decoder = new TrtllmDecoder();
    const [first, ...rest] = decode(
      decoder,
      stored("null", trtllmBlock("1", TOKENS), trtllmBlock("2", TOKENS.slice(0, 16))),
    );
    expect(first).toMatchObject({
      type: "stored",
      handles: BigUint64Array.of(1n),
      blockSizeTokens: 32,
    });
    expect(rest).toEqual([]);
    expect(decode(decoder, stored("1", trtllmBlock("3", TOKENS.slice(0, 7))))).toEqual([]);
    expect(decode(decoder, removed("2", "3"))).toEqual([]);
    expect(decode(decoder, removed("1", "3"))).toMatchObject([
      { type: "removed", handles: BigUint64Array.of(1n, 3n) },
    ]);
  });

  it("with a block behind one that is not full are malformed", () => {
    const blocks = [trtllmBlock("1", TOKENS.slice(0, 5)), trtllmBlock("2", TOKENS)];
    expect(decode(new TrtllmDecoder(), stored("null", ...blocks))).toEqual([
      { type: "skipped", reason: "malformed-event" },
    ]);
  });

  it("never take a length that is no power of two for the block size", () => {
    const decoder = new TrtllmDecoder();
    expect(decode(decoder, stored("null", trtllmBlock("1", TOKENS.slice(0, 31))))).toEqual([]);
    expect(decode(decoder, removed("1"))).toEqual([]);
  });

  it("carry images, extra ids of tokens, adapter, and the salt of a first block", () => {
    const image = ',"mm_keys":[{"type":"mm_key","hash":"abcd","start_offset":8}],"lora_id":3';
    const salted = ',"cache_salt":"tenant","lora_id":3';
    const prompted = trtllmBlock("3", TOKENS, ',"lora_id":3').replace(
      '"token_extra_id":0',
      '"token_extra_id":5',
    );
    const blocks = [trtllmBlock("1", TOKENS, salted), trtllmBlock("2", TOKENS, image), prompted];
    const data = stored("null", ...blocks).replace("{", '{"lora_name":"adapter",');
    expect(decode(new TrtllmDecoder(), data)).toMatchObject([
      {
        loraName: "adapter",
        loraId: 3,
        extraKeys: [["tenant"], [["abcd", 8]], [["token_extra_ids", 5]]],
      },
    ]);
    const child = stored("9", trtllmBlock("1", TOKENS, salted));
    expect(decode(new TrtllmDecoder(), child)).toMatchObject([{ extraKeys: null }]);
  });
});

describe("tiers", () => {
  it("change by an update: stored in the one, removed from the other", () => {
    const decoder = new TrtllmDecoder();
    decode(decoder, stored("null", trtllmBlock("1", TOKENS)));
    expect(decode(decoder, moved("1", 0, 1))).toMatchObject([
      { type: "stored", handles: BigUint64Array.of(1n), blockSizeTokens: 0, medium: "CPU" },
      { type: "removed", handles: BigUint64Array.of(1n), medium: "GPU" },
    ]);
    expect(decode(decoder, removed("1"))).toMatchObject([{ type: "removed", medium: "CPU" }]);
    expect(decode(decoder, removed("1"))).toMatchObject([{ type: "removed", medium: "GPU" }]);
  });

  it("do not change with a priority alone, nor for a block that is not full", () => {
    const decoder = new TrtllmDecoder();
    const priority = '{"type":"updated","block_hash":1,"cache_level":null,"priority":{}}';
    expect(decode(decoder, priority)).toEqual([]);
    decode(decoder, stored("null", trtllmBlock("2", TOKENS.slice(0, 5))));
    expect(decode(decoder, moved("2", 0, 1))).toEqual([]);
  });

  it("of one event are told apart", () => {
    const onHost = trtllmBlock("2", TOKENS).replace('"cache_level":0', '"cache_level":1');
    expect(
      decode(new TrtllmDecoder(), stored("null", trtllmBlock("1", TOKENS), onHost)),
    ).toMatchObject([
      { handles: BigUint64Array.of(1n), parent: null, medium: "GPU" },
      { handles: BigUint64Array.of(2n), parent: 1n, medium: "CPU" },
    ]);
  });
});

describe("attention windows", () => {
  it("shorter than the longest are sliding ones", () => {
    const decoder = new TrtllmDecoder();
    for (const window of [512, 4096]) {
      const created = '{"type":"created","num_blocks_per_cache_level":[9,0]}';
      expect(decode(decoder, created, `,"window_size":${window}`)).toEqual([]);
    }
    const store = stored("null", trtllmBlock("1", TOKENS));
    expect(decode(decoder, store, ',"window_size":512')).toMatchObject([
      { specKind: "sliding_window", group: 512 },
    ]);
    expect(decode(decoder, store, ',"window_size":4096,"layer_group_id":2')).toMatchObject([
      { specKind: "full_attention", group: 2 },
    ]);
  });
});

describe("an answer of several ranks", () => {
  const answerOf = (...ranks: string[]): Uint8Array => {
    const items = ranks.map((rank, at) => {
      return `{"event_id":${at},"data":${removed(`${at + 1}`)},"attention_dp_rank":${rank}}`;
    });
    return jsonPayload(`[${items.join(",")}]`);
  };

  it("is one batch of no rank, with the events of all", () => {
    const gone = [1n, 2n].map((hash) => ({ type: "removed", handles: BigUint64Array.of(hash) }));
    const batch = (rank: number | null) => ({ ok: true, value: { ts: 0, rank, events: gone } });
    expect(new TrtllmDecoder().decode(answerOf("0", "1"))).toMatchObject(batch(null));
    expect(new TrtllmDecoder().decode(answerOf("null", "1"))).toMatchObject(batch(null));
    expect(new TrtllmDecoder().decode(answerOf("3", "3"))).toMatchObject(batch(3));
  });

  it("skips an event of a rank that there cannot be, and what is no event, and keeps the rest", () => {
    expect(new TrtllmDecoder().decode(answerOf("5000", "1"))).toMatchObject({
      value: { rank: null, events: [{ type: "skipped" }, { type: "removed" }] },
    });
    const odd = `[7,{"event_id":0,"data":${removed("1")},"attention_dp_rank":2}]`;
    expect(new TrtllmDecoder().decode(jsonPayload(odd))).toMatchObject({
      value: {
        rank: 2,
        events: [{ type: "skipped", reason: "malformed-event" }, { type: "removed" }],
      },
    });
    expect(new TrtllmDecoder().decode(jsonPayload('"off"'))).toMatchObject({
      reason: "malformed-batch",
    });
  });

  it("may be as large as what is drained, where it is read as an answer", () => {
    const tokens = Array.from({ length: 60_000 }, (_, id) => id % 32_768);
    const blocks = Array.from({ length: 60_000 / 32 }, (_, at) =>
      trtllmBlock(`${at + 1}`, tokens.slice(at * 32, at * 32 + 32)),
    );
    const answer = jsonPayload(`[{"event_id":0,"data":${stored("null", ...blocks)}}]`);
    expect(new TrtllmDecoder().decode(answer)).toMatchObject({ reason: "oversized" });
    const decoded = new TrtllmDecoder().decodeAnswer(answer);
    expect(decoded).toMatchObject({ value: { events: [{ tokens: Uint32Array.from(tokens) }] } });
  });
});

describe("a drain", () => {
  it("is one message for each event, numbered by the engine", () => {
    const items = [
      `{"event_id":7,"data":${removed("1")},"attention_dp_rank":1}`,
      `{"data":${removed("2")}}`,
      `{"event_id":8,"data":${removed("3")},"attention_dp_rank":5000}`,
    ];
    expect(new TrtllmDecoder().drain(jsonPayload(`[${items.join(",")}]`))).toMatchObject({
      value: [
        {
          seq: 7,
          batch: { ts: 0, rank: 1, events: [{ type: "removed", handles: BigUint64Array.of(1n) }] },
        },
        { seq: 8, batch: null },
      ],
    });
  });

  it("tells blocks of one rank from those of another, under the same hashes", () => {
    const block = (tokens: readonly number[]): string => stored("null", trtllmBlock("1", tokens));
    const data = [
      ...[[block(TOKENS), 0] as const, [block(TOKENS), 1], [moved("1", 0, 1), 1]],
      ...[[removed("1"), 0] as const, [removed("1"), 1]],
      ...[[block(TOKENS.slice(0, 5)), 0] as const, [removed("1"), 1], [removed("1"), 0]],
    ];
    const items = data.map(([event, rank], at) => {
      return `{"event_id":${at},"data":${event},"attention_dp_rank":${rank}}`;
    });
    const drained = new TrtllmDecoder().drain(jsonPayload(`[${items.join(",")}]`));
    const told = drained.ok ? drained.value : [];
    expect(told.map(({ rank }) => rank)).toEqual(data.map(([, rank]) => rank));
    const media = told.map(({ batch }) =>
      batch?.events.map((event) => "medium" in event && event.medium),
    );
    const [gpu, cpu] = [["GPU"], ["CPU"]];
    expect(media).toEqual([gpu, gpu, ["CPU", "GPU"], gpu, cpu, [], gpu, []]);
  });

  it("never throws, and says what the whole answer does", () => {
    const samples = eventSamples().trtllm;
    const answer = samples.at(-1) ?? new Uint8Array();
    const whole = new TrtllmDecoder().decodeAnswer(answer);
    const drained = new TrtllmDecoder().drain(answer);
    const events = drained.ok ? drained.value.flatMap(({ batch }) => batch?.events ?? []) : [];
    expect(whole.ok && whole.value.events).toEqual(events);
    expect(events.length).toBeGreaterThan(3);
    const decoder = new TrtllmDecoder();
    for (let seed = 0; seed < 3000; seed += 1) {
      const drain = decoder.drain(mutatePayload(answer, seededRandom(seed)));
      if (!drain.ok) expect(drain.detail).not.toBe("");
    }
  });

  it("that is none is refused", () => {
    const reasonOf = (text: string): unknown => {
      const drained = new TrtllmDecoder().drain(jsonPayload(text));
      return drained.ok ? null : drained.reason;
    };
    expect(reasonOf("<html>")).toBe("not-json");
    expect(reasonOf(`${"[".repeat(40)}${"]".repeat(40)}`)).toBe("not-json");
    expect(reasonOf('{"detail":"off"}')).toBe("malformed-batch");
    expect(reasonOf("[]")).toBeNull();
  });
});

it("forgets the oldest blocks that are not full beyond a limit", () => {
  const decoder = new TrtllmDecoder();
  const events = Array.from({ length: PARTIAL_BLOCKS_MAX + 1 }, (_, hash) => {
    const block = `{"block_hash":${hash},"tokens":[{"token_id":1},{"token_id":1},{"token_id":1}]}`;
    return `{"data":${stored("null", block)}}`;
  });
  for (const event of events) decoder.decode(jsonPayload(event));
  expect(decode(decoder, removed("0", "1", String(PARTIAL_BLOCKS_MAX)))).toMatchObject([
    { type: "removed", handles: BigUint64Array.of(0n) },
  ]);
});
