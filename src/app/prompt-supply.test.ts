import { expect, it } from "vitest";
import { endpointId } from "../core/ids.ts";
import { supplyOf } from "./prompt-supply.ts";

const pod = endpointId("10.0.0.1:8000");

it("takes each rank's deepest reach over block sizes, then the shallowest rank", () => {
  const prefix = (
    rank: number,
    blocks: number,
  ): Parameters<typeof supplyOf>[0][number]["prefix"] => ({
    ...{ matches: [], sharedBlocks: 0, availableBlocks: blocks },
    reachable: [{ holder: { endpointId: pod, rank }, blocks }],
  });
  const rank0 = { blockSizeTokens: 16, prefix: prefix(0, 20) };
  const coarse0 = { blockSizeTokens: 256, prefix: prefix(0, 1) };
  const rank1 = { blockSizeTokens: 256, prefix: prefix(1, 2) };
  expect(supplyOf([rank0, coarse0]).reachableTokens(pod, 1)).toBe(320);
  expect(supplyOf([rank0, coarse0]).reachableTokens(pod, 2)).toBe(0);
  expect(supplyOf([rank0, coarse0, rank1]).reachableTokens(pod, 2)).toBe(320);
});
