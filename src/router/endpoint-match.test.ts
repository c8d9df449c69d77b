import { expect, it } from "vitest";
import { endpointId, type Holder } from "../core/ids.ts";
import type { EndpointView } from "../fleet/fleet.ts";
import { IDLE_LOAD } from "../fleet/ledger.ts";
import type { HolderMatch } from "../indexer/block-index.ts";
import { endpointMatches } from "./endpoint-match.ts";

const id = endpointId("10.0.0.1:8000");

function view(ranks: number): EndpointView {
  const address = "tcp://10.0.0.1:5557";
  const kvEvents = { engine: "vllm", address, ranks, replay: null, topic: "" } as const;
  const spec = { id, name: "pod", pool: "p", model: "m", kvEvents, metricsUrl: null };
  const state = { isReady: true, readyReason: "ready", signals: null, load: IDLE_LOAD } as const;
  return { spec: { ...spec, isDraining: false }, ...state };
}

function match(holder: Holder, gpuBlocks: number, cpuBlocks = 0): HolderMatch {
  const blocksByTier = { gpu: gpuBlocks, cpu: cpuBlocks, nvme: 0, shared: 0 };
  return { holder, gpuBlocks, blocks: gpuBlocks + cpuBlocks, blocksByTier };
}

it("answers in tokens, whatever the block size", () => {
  const sized = [
    { blockSizeTokens: 64, matches: [match({ endpointId: id, rank: 0 }, 3, 2)] },
    { blockSizeTokens: 16, matches: [] },
  ];
  expect(endpointMatches([view(1)], sized).get(id)).toEqual({
    gpuTokens: 192,
    tokensByTier: { gpu: 192, cpu: 128, nvme: 0, shared: 0 },
  });
});

it("counts an endpoint with several ranks as its shallowest, and as nothing when one has nothing", () => {
  const rank0 = match({ endpointId: id, rank: 0 }, 9);
  const rank1 = match({ endpointId: id, rank: 1 }, 4);
  const both = [{ blockSizeTokens: 16, matches: [rank0, rank1] }];
  expect(endpointMatches([view(2)], both).get(id)?.gpuTokens).toBe(64);
  expect(endpointMatches([view(2)], [{ blockSizeTokens: 16, matches: [rank0] }]).size).toBe(0);
});

it("skips holders that are not in the fleet", () => {
  const other = match({ endpointId: endpointId("10.0.0.9:8000"), rank: 0 }, 5);
  expect(endpointMatches([view(1)], [{ blockSizeTokens: 16, matches: [other] }]).size).toBe(0);
});
