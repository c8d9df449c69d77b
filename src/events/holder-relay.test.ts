import { describe, expect, it } from "vitest";
import {
  byHandle,
  chain,
  keysIn,
  keysOf,
  newRelay,
  parent,
  plain,
  relayAt,
  removed,
  stored,
  tokensOf,
} from "../../test/harness/relay-blocks.ts";
import type { HolderRelay } from "./holder-relay.ts";
import type { KeyedEvent } from "./keyed-batch.ts";
import type { KvEvent } from "./kv-event.ts";
import { ORPHAN_TOKENS_MAX } from "./orphans.ts";

function relayAll(relay: HolderRelay, ...events: KvEvent[]): readonly KeyedEvent[] {
  return relayAt(relay, { seq: 1000, ts: 1000 }, ...events)?.events ?? [];
}

describe("keys", () => {
  it("continue the chain of the parent, also of one that was removed", () => {
    const events = relayAll(
      newRelay(),
      stored([1, 2]),
      removed([2]),
      removed([1]),
      stored([3], parent(2)),
    );
    expect(keysIn(events.at(-1))).toEqual([chain(1, 2, 3)[2]]);
  });

  it("of blocks under a parent never seen are not made up", () => {
    expect(relayAll(newRelay(), stored([3], parent(2)), stored([1]))).toMatchObject([
      { type: "stored" },
      { type: "lost", reason: "unknown-parent" },
    ]);
  });

  it("of an adapter are its own, by name or by id, and its name in the extras adds nothing", () => {
    const events = relayAll(
      newRelay(),
      stored([1]),
      stored([2], { tokens: tokensOf([1]), loraName: "sql", loraId: 1, extraKeys: [["sql"]] }),
      stored([2], { tokens: tokensOf([1]), loraName: "sql", loraId: 1 }),
      stored([3], { tokens: tokensOf([1]), loraId: 1 }),
    );
    const tokens = [...tokensOf([1])];
    const adapter = keysOf({ ...plain, lora: "sql", tokens });
    const stores = events.filter(({ type }) => type === "stored");
    expect(stores.map(keysIn)).toEqual([
      chain(1),
      adapter,
      adapter,
      keysOf({ ...plain, lora: "id:1", tokens }),
    ]);
  });

  it("carry a salt through the chain, though only the first block names it", () => {
    const salted = { extraKeys: [["tenant"], null] };
    const events = relayAll(newRelay(), stored([1, 2], salted), stored([3], parent(2)));
    const expected = keysOf({
      ...plain,
      tokens: [...tokensOf([1, 2, 3])],
      extras: ['["tenant"]', null],
    });
    expect(events.flatMap(keysIn)).toEqual(expected);
    expect(expected.filter((key) => chain(1, 2, 3).includes(key))).toEqual([]);
  });

  it("of a salted block stay its own when a lower tier's event does not tell the salt", () => {
    const salted = { extraKeys: [["tenant"], null] };
    const events = relayAll(
      newRelay(),
      stored([1, 2], salted),
      removed([1, 2]),
      stored([1, 2, 3], { medium: "CPU" }),
    );
    const extras = ['["tenant"]', null, null];
    const expected = keysOf({ ...plain, tokens: [...tokensOf([1, 2, 3])], extras });
    expect(keysIn(events.at(-1))).toEqual(expected);
  });
});

describe("tiers", () => {
  it("below the GPU take known blocks by their handles alone", () => {
    const events = relayAll(newRelay(), stored([1, 2]), stored([2, 1], byHandle));
    const [first, second] = chain(1, 2);
    expect(events[1]).toEqual({ type: "lane", name: "CPU" });
    expect(events[2]).toMatchObject({ type: "stored", tier: "cpu", blockSizeTokens: 0 });
    expect(keysIn(events[2])).toEqual([second, first]);
  });

  it("place what is known, and report what is not", () => {
    const events = relayAll(newRelay(), stored([1]), stored([9, 1], byHandle));
    expect(events.slice(2)).toMatchObject([
      { type: "stored", handles: BigUint64Array.of(1n) },
      { type: "lost", reason: "unknown-handle" },
    ]);
  });

  it("that are not known are reported, and never taken for the GPU", () => {
    const tape = { medium: "TAPE" };
    expect(relayAll(newRelay(), stored([1], tape), removed([1], "TAPE"))).toEqual([
      { type: "lost", reason: "unknown-tier" },
      { type: "lost", reason: "unknown-tier" },
    ]);
  });
});

describe("events that do not fit", () => {
  it("are lost where too much waits already", () => {
    const tokens = new Uint32Array(ORPHAN_TOKENS_MAX + 1);
    const more = { tokens, blockSizeTokens: tokens.length, ...parent(1) };
    const events = relayAll(newRelay(), stored([2], more));
    expect(events).toEqual([{ type: "lost", reason: "orphans-full" }]);
  });

  it("are reported: lengths, extras and what the decoder skipped", () => {
    const skipped: KvEvent = { type: "skipped", reason: "malformed-event" };
    expect(
      relayAll(
        newRelay(),
        stored([1, 2], { tokens: tokensOf([1]) }),
        stored([1], { extraKeys: [null, null] }),
        stored([1], { blockSizeTokens: 0 }),
        skipped,
        stored([1]),
      ),
    ).toMatchObject([
      { reason: "length-mismatch" },
      { reason: "length-mismatch" },
      { reason: "length-mismatch" },
      { reason: "skipped-event" },
      { type: "stored" },
    ]);
  });

  it("count one more copy of the blocks among them that are known", () => {
    const events = relayAll(newRelay(), stored([1]), stored([1, 2], { tokens: tokensOf([1]) }));
    const [, loss, again] = events;
    expect(loss).toMatchObject({ reason: "length-mismatch" });
    expect(again).toMatchObject({ type: "stored", handles: BigUint64Array.of(1n) });
  });

  it("of sliding-window groups are left out, with their removals", () => {
    const sliding = { group: 1, specKind: "sliding_window" };
    const full = { group: 0, specKind: "full_attention" };
    const events = relayAll(
      newRelay(),
      stored([1], full),
      stored([1], sliding),
      { ...removed([1]), group: 1 } as KvEvent,
      { ...removed([1]), group: 0 } as KvEvent,
    );
    expect(events.map(({ type }) => type)).toEqual(["stored", "ignored-group", "removed"]);
  });
});

describe("sequence", () => {
  it("going back, with a later time, is a new life: nothing of the old one is known", () => {
    const relay = newRelay();
    relayAt(relay, { seq: 0 }, stored([1]));
    relayAt(relay, { seq: 1 }, stored([2], parent(1)));
    expect(relayAt(relay, { seq: 0, ts: 100 }, stored([2], parent(1)))).toMatchObject({
      epoch: 2,
      seq: 0,
      events: [{ reason: "unknown-parent" }],
    });
    expect(relayAt(relay, { seq: 0, ts: 200 })).toMatchObject({ epoch: 3, seq: 0 });
  });

  it("standing still with a later time is a new life whose beginning was missed", () => {
    const relay = newRelay();
    relayAt(relay, { seq: 4, ts: 10 }, stored([1]));
    expect(relayAt(relay, { seq: 4, ts: 20 }, stored([2], parent(1)))).toMatchObject({
      epoch: 2,
      events: [{ reason: "unknown-parent" }],
    });
  });

  it("repeating what was relayed or adopted is dropped, and is no new life", () => {
    const relay = newRelay();
    relayAt(relay, { seq: 0, ts: 10 }, stored([1]));
    relayAt(relay, { seq: 1, ts: 11 }, stored([2], parent(1)));
    expect(relayAt(relay, { seq: 0, ts: 10 }, stored([1]))).toBeNull();
    expect(relayAt(relay, { seq: 1, ts: 11 }, stored([2], parent(1)))).toBeNull();
    expect(relayAt(relay, { seq: 2, ts: 12 }, stored([3], parent(2)))).toMatchObject({
      epoch: 1,
      seq: 2,
      events: [{ type: "stored" }],
    });
  });

  it("of a message that cannot be decoded is kept, with the loss", () => {
    const relay = newRelay();
    relayAt(relay, { seq: 0 }, stored([1]));
    expect(relay.live({ seq: 1, batch: null }).batches[0]).toMatchObject({
      epoch: 1,
      seq: 1,
      events: [{ type: "lost", reason: "undecodable" }],
    });
    expect(relayAt(relay, { seq: 2 }, stored([2], parent(1)))).toMatchObject({ epoch: 1 });
  });
});

describe("resynchronisation", () => {
  const at = (seq: number, ...events: KvEvent[]): Parameters<HolderRelay["live"]>[0] => ({
    seq,
    batch: { ts: seq + 1, rank: 0, events },
  });
  const lostResync = [{ type: "lost", reason: "resync" }];

  it("without replay: another epoch behind the last message, handles forgotten, no gap", () => {
    const relay = newRelay();
    relay.live(at(0, stored([1])));
    relay.live(at(1, stored([2], parent(1))));
    const [begin] = relay.resync().batches;
    expect(begin).toMatchObject({ epoch: 2, seq: 1, engineMs: 2000, events: lostResync });
    const next = relay.live(at(2, stored([3], parent(1)))).batches[0];
    expect(next).toMatchObject({ epoch: 2, seq: 2 });
    expect(next?.events).toEqual([{ type: "lost", reason: "unknown-parent" }]);
    expect(relay.live(at(1, stored([2]))).drops).toEqual(["duplicate"]);
  });

  it("with replay: the engine is asked from its first message", () => {
    const relay = newRelay({ canReplay: true });
    relay.live(at(0, stored([1])));
    const step = relay.resync();
    expect(step).toMatchObject({ replayFrom: 0, batches: [{ epoch: 2, seq: -1 }] });
    expect(step.batches[0]?.events).toEqual(lostResync);
    expect(relay.live(at(1, stored([2], parent(1)))).batches).toEqual([]);
    expect(relay.replayed(at(0, stored([1]))).batches).toEqual([]);
    const [first, last] = relay.replayEnded().batches;
    expect(first).toMatchObject({ epoch: 2, seq: 0, events: [{ type: "catching-up" }, {}] });
    expect(last).toMatchObject({ epoch: 2, seq: 1, events: [{ type: "stored" }] });
  });

  it("of a holder that said nothing changes nothing", () => {
    expect(newRelay().resync()).toMatchObject({ batches: [], replayFrom: null, drops: [] });
  });
});
