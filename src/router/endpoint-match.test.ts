import { expect, it } from "vitest";
import { fleetViewOf, viewOf } from "../../test/harness/fleet-values.ts";
import { type EndpointId, endpointId, type Holder } from "../core/ids.ts";
import type { HolderMatch } from "../indexer/block-index.ts";
import { type EndpointMatch, endpointMatches, type SizedMatches } from "./endpoint-match.ts";

const id = endpointId("10.0.0.1:8000");

/** Matches of a fleet whose one endpoint has so many ranks. */
function matched(
  ranks: number,
  ...sized: (Partial<SizedMatches> & { readonly blockSizeTokens: number })[]
): Map<EndpointId, EndpointMatch> {
  const address = "tcp://10.0.0.1:5557";
  const kvEvents = { engine: "vllm", address, ranks, replay: null, topic: "" } as const;
  const fleet = fleetViewOf(0, [viewOf(id, { spec: { kvEvents } })]);
  const whole = sized.map((each) => ({ matches: [], ...each }));
  return endpointMatches(fleet, whole);
}

function match(holder: Holder, gpuBlocks: number, cpuBlocks = 0): HolderMatch {
  const blocksByTier = { gpu: gpuBlocks, cpu: cpuBlocks, nvme: 0, shared: 0 };
  return { holder, gpuBlocks, blocks: gpuBlocks + cpuBlocks, blocksByTier };
}

it("answers in tokens, whatever the block size", () => {
  const sized = { blockSizeTokens: 64, matches: [match({ endpointId: id, rank: 0 }, 3, 2)] };
  expect(matched(1, sized, { blockSizeTokens: 16 }).get(id)).toEqual({
    ...{ gpuTokens: 192, inflightTokens: 0, heldTokens: 320 },
    tokensByTier: { gpu: 192, cpu: 128, nvme: 0, shared: 0 },
  });
});

it("counts an endpoint with several ranks as its shallowest, and as nothing when one has nothing", () => {
  const rank0 = match({ endpointId: id, rank: 0 }, 9);
  const rank1 = match({ endpointId: id, rank: 1 }, 4);
  const both = { blockSizeTokens: 16, matches: [rank0, rank1] };
  expect(matched(2, both).get(id)?.gpuTokens).toBe(64);
  expect(matched(2, { blockSizeTokens: 16, matches: [rank0] }).size).toBe(0);
});

it.each([
  [16, 256],
  [256, 16],
])("takes a rank's longest match over block sizes, in whichever order: %i, %i", (...order) => {
  const holder = { endpointId: id, rank: 0 };
  const found = new Map([
    [16, { blockSizeTokens: 16, matches: [match(holder, 20, 3)] }],
    [256, { blockSizeTokens: 256, matches: [match(holder, 0, 2)] }],
  ]);
  const sized = order.map((size) => found.get(size) ?? expect.fail());
  expect(matched(1, ...sized).get(id)).toEqual({
    ...{ gpuTokens: 320, inflightTokens: 0, heldTokens: 512 },
    tokensByTier: { gpu: 320, cpu: 192, nvme: 0, shared: 0 },
  });
});

it("takes each rank's longest match before it counts the shallowest rank", () => {
  const fine = { blockSizeTokens: 16, matches: [match({ endpointId: id, rank: 0 }, 9)] };
  const coarse = { blockSizeTokens: 64, matches: [match({ endpointId: id, rank: 1 }, 2)] };
  expect(matched(2, fine, coarse).get(id)?.gpuTokens).toBe(128);
  expect(matched(2, fine, fine).size).toBe(0);
});

it("skips holders that are not in the fleet", () => {
  const stranger = endpointId("10.0.0.9:8000");
  const matches = [match({ endpointId: stranger, rank: 0 }, 5)];
  const inflight = [{ endpointId: stranger, blocks: 3 }];
  expect(matched(1, { blockSizeTokens: 16, matches, inflight }).get(id)).toBeUndefined();
});

it.each([
  { inflight: 2, gpuTokens: 48, cpu: 32, nvme: 16, gpu: 48 },
  { inflight: 4, gpuTokens: 64, cpu: 16, nvme: 16, gpu: 64 },
  { inflight: 6, gpuTokens: 96, cpu: 0, nvme: 0, gpu: 96 },
  { inflight: 9, gpuTokens: 144, cpu: 0, nvme: 0, gpu: 144 },
])("need not load what is in flight there: $inflight blocks", ({ inflight, ...expected }) => {
  const held: HolderMatch = {
    ...{ holder: { endpointId: id, rank: 0 }, gpuBlocks: 3, blocks: 6 },
    blocksByTier: { gpu: 3, cpu: 2, nvme: 1, shared: 0 },
  };
  const inFlight = [{ endpointId: id, blocks: inflight }];
  const found = matched(1, { blockSizeTokens: 16, matches: [held], inflight: inFlight }).get(id);
  const { gpuTokens, gpu, cpu, nvme } = expected;
  expect(found).toEqual({
    ...{ gpuTokens, inflightTokens: 16 * inflight, heldTokens: 96 },
    tokensByTier: { gpu, cpu, nvme, shared: 0 },
  });
});

it("counts what is in flight at an endpoint that holds nothing yet", () => {
  const inflight = [{ endpointId: id, blocks: 4 }];
  expect(matched(1, { blockSizeTokens: 16, inflight }).get(id)?.gpuTokens).toBe(64);
  expect(matched(2, { blockSizeTokens: 16, inflight }).size).toBe(0);
});
