import { expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import type { EndpointSpec, KvEventSource } from "../fleet/endpoint.ts";
import { eventSources } from "./event-sources.ts";

function spec(kvEvents: KvEventSource | null): EndpointSpec {
  return specOf("10.0.0.1:8000", { kvEvents });
}

it("makes a source of each rank, with its ports and its engine", () => {
  const place = { address: "tcp://h:5557", replay: "tcp://h:5600", topic: "kv" };
  const sources = eventSources([spec({ engine: "sglang", ranks: 2, ...place }), spec(null)]);
  expect(sources).toMatchObject([
    { engine: "sglang", address: "tcp://h:5557", replayAddress: "tcp://h:5600", topic: "kv" },
    { engine: "sglang", address: "tcp://h:5558", replayAddress: "tcp://h:5601", topic: "kv" },
  ]);
  expect(sources.map(({ holder }) => holder.rank)).toEqual([0, 1]);
});

it("has all ranks of a polled engine at its URL", () => {
  const address = "http://h:8000/kv_cache_events";
  expect(
    eventSources([spec({ engine: "trtllm", address, ranks: 2, replay: null, topic: "" })]),
  ).toMatchObject([0, 1].map((rank) => ({ engine: "trtllm", address, holder: { rank } })));
});
