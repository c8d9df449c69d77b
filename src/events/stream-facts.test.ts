import { expect, it } from "vitest";
import { SAMPLE_BYTES_MAX, StreamWatch } from "./stream-facts.ts";

it("keeps when, from where and what last could not be read, and little of it", () => {
  const watch = new StreamWatch("tcp://a:1", 10);
  expect(watch.facts()).toEqual({
    ...{
      address: "tcp://a:1",
      sinceMs: 10,
      handshakes: 0,
      heardMs: null,
      topic: null,
      undecodable: null,
      otherRank: null,
    },
  });
  watch.answered(3);
  const bytes = new Uint8Array(8);
  watch.heard([Buffer.from("kv@10.0.0.1@m"), bytes, bytes], 20);
  watch.heard([bytes], 30);
  watch.refused("frame-count", new Uint8Array(0), 30);
  watch.refused("not-msgpack", new Uint8Array(10_000).fill(0xab), 40);
  expect(watch.facts()).toEqual({
    ...{ address: "tcp://a:1", sinceMs: 10, handshakes: 1, heardMs: 30, topic: "kv@10.0.0.1@m" },
    undecodable: {
      ...{ count: 2, reason: "not-msgpack", sampleHex: "ab".repeat(SAMPLE_BYTES_MAX), atMs: 40 },
    },
    otherRank: 3,
  });
  watch.answered(null);
  expect(watch.facts()).toMatchObject({ handshakes: 2, otherRank: null });
});
