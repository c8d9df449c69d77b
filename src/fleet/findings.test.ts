import { describe, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import { endpointId } from "../core/ids.ts";
import { type EndpointFacts, findingsOf, type RankFacts } from "./findings.ts";

const spec = specOf("10.0.0.1:8000", {
  ...{ name: "pod", model: "org/m" },
  kvEvents: { address: "tcp://10.0.0.1:5557", engine: "vllm", ranks: 1, replay: null, topic: "" },
});
const healthy: RankFacts = {
  ...{ rank: 0, address: "tcp://10.0.0.1:5557", followedMs: 60_000, handshakes: 1 },
  ...{ topic: "kv@10.0.0.1@org/m", undecodable: null, otherRank: null, blockSizesTokens: [16] },
};
const whole: EndpointFacts = {
  ...{ spec, isReachable: true, scrapedBlockSizeTokens: 16, silence: null, ranks: [healthy] },
};

const names = (facts: Partial<EndpointFacts>): string[] =>
  findingsOf({ ...whole, ...facts }).map(({ name }) => name);
const rankNames = (rank: Partial<RankFacts>, facts: Partial<EndpointFacts> = {}): string[] =>
  names({ ...facts, ranks: [{ ...healthy, ...rank }] });

describe("findings", () => {
  it("are none of a healthy endpoint, nor of one without an event source", () => {
    expect(names({})).toEqual([]);
    const silence = { requests: 1, silentMs: 60_000 };
    expect(names({ spec: { ...spec, kvEvents: null }, silence, ranks: [] })).toEqual([]);
  });

  it("events-silent: what is owed for too long, with the flags that make vLLM publish", () => {
    const [finding] = findingsOf({ ...whole, silence: { requests: 3, silentMs: 31_500 } });
    expect(finding).toMatchObject({ name: "events-silent" });
    expect(finding?.detail).toContain("3 answered requests");
    expect(finding?.detail).toContain("for 31 s");
    expect(finding?.fix).toContain("--kv-events-config");
  });

  it("never-connected: after a grace, of any rank, while the server answers", () => {
    expect(rankNames({ handshakes: 0 })).toEqual(["never-connected"]);
    expect(rankNames({ handshakes: 0, followedMs: 9_999 })).toEqual([]);
    expect(rankNames({ handshakes: 0 }, { isReachable: false })).toEqual([]);
    const [finding] = findingsOf({
      ...whole,
      ranks: [healthy, { ...healthy, rank: 1, address: "tcp://10.0.0.1:5558", handshakes: 0 }],
    });
    expect(finding?.detail).toContain("rank 1: nothing has answered at tcp://10.0.0.1:5558");
    expect(finding?.fix).toContain("tcp://*:5557");
  });

  it("undecodable: with the sample, until a while after the last one", () => {
    const undecodable = { count: 2, reason: "not-msgpack", sampleHex: "c1c1", ageMs: 0 };
    const [finding] = findingsOf({ ...whole, ranks: [{ ...healthy, undecodable }] });
    expect(finding).toMatchObject({ name: "undecodable" });
    expect(finding?.detail).toContain("2 messages refused, the last one as not-msgpack");
    expect(finding?.detail).toContain("begins with c1c1");
    expect(rankNames({ undecodable: { ...undecodable, ageMs: 300_000 } })).toEqual([]);
  });

  it.each([
    ["kv@10.0.0.1:8000@org/m", []],
    ["kv@10.0.0.2@org/m", ["identity-mismatch"]],
    ["kv@10.0.0.1:8001@org/m", ["identity-mismatch"]],
    ["kv@10.0.0.1@org/other", ["identity-mismatch"]],
    ["kv@pod-1@org/m", ["identity-mismatch"]],
    ["kv-events", []],
    ["", []],
    ["kv@@", []],
  ])("identity-mismatch: topic %j", (topic, expected) => {
    expect(rankNames({ topic })).toEqual(expected);
  });

  it("identity-mismatch: knows IPv6 with and without brackets, and the ports of ranks", () => {
    const ipv6 = { ...spec, id: endpointId("[fd00::1]:8000") };
    expect(rankNames({ topic: "kv@fd00::1@org/m" }, { spec: ipv6 })).toEqual([]);
    expect(rankNames({ topic: "kv@[fd00::1]:8000@org/m" }, { spec: ipv6 })).toEqual([]);
    expect(rankNames({ topic: "kv@fd00::2@org/m" }, { spec: ipv6 })).toEqual(["identity-mismatch"]);
    const kvEvents = {
      address: "tcp://10.0.0.1:5557",
      engine: "vllm" as const,
      ranks: 2,
      replay: null,
      topic: "",
    };
    const ranked = { spec: { ...spec, kvEvents } };
    expect(rankNames({ topic: "kv@10.0.0.1:8001@org/m" }, ranked)).toEqual([]);
    expect(rankNames({ topic: "kv@10.0.0.1:8002@org/m" }, ranked)).toEqual(["identity-mismatch"]);
  });

  it("rank-unfollowed: with the number of ranks to set", () => {
    expect(rankNames({ otherRank: 3 })).toEqual(["rank-unfollowed"]);
    const [finding] = findingsOf({ ...whole, ranks: [{ ...healthy, otherRank: 3 }] });
    expect(finding?.detail).toContain("rank 3");
    expect(finding?.fix).toContain("kvEvents.ranks");
    expect(finding?.fix).toContain("4 or more");
  });

  it("name the fix of the engine that it is", () => {
    const kvEvents = { engine: "trtllm", address: "http://a/kv_cache_events", ranks: 1 } as const;
    const polled = { ...spec, kvEvents: { ...kvEvents, replay: null, topic: "" } };
    const silence = { requests: 3, silentMs: 31_500 };
    const ranks = [{ ...healthy, topic: null, handshakes: 0 }];
    const fixes = findingsOf({ ...whole, spec: polled, silence, ranks }).map(({ fix }) => fix);
    expect(fixes[0]).toContain("event_buffer_max_size");
    expect(fixes[1]).toContain("/kv_cache_events");
  });

  it("block-size-mismatch: only where both are told", () => {
    expect(rankNames({ blockSizesTokens: [32] })).toEqual(["block-size-mismatch"]);
    expect(rankNames({ blockSizesTokens: [256, 16] })).toEqual([]);
    expect(rankNames({ blockSizesTokens: [] })).toEqual([]);
    expect(rankNames({ blockSizesTokens: [32] }, { scrapedBlockSizeTokens: null })).toEqual([]);
  });

  it("can all stand at once, each with a fix", () => {
    const undecodable = { count: 1, reason: "not-msgpack", sampleHex: "", ageMs: 0 };
    const rank = {
      handshakes: 0,
      topic: "kv@a@b",
      undecodable,
      otherRank: 1,
      blockSizesTokens: [1],
    };
    const all = findingsOf({
      ...{ ...whole, silence: { requests: 1, silentMs: 30_000 } },
      ranks: [{ ...healthy, ...rank }],
    });
    expect(all.map(({ name }) => name)).toEqual([
      ...["events-silent", "never-connected", "undecodable"],
      ...["identity-mismatch", "rank-unfollowed", "block-size-mismatch"],
    ]);
    for (const { fix } of all) expect(fix.length).toBeGreaterThan(20);
  });
});
