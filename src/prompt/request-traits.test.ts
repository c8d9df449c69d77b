import { expect, it } from "vitest";
import { readTraits } from "./request-traits.ts";

const NONE = { objective: null, fairnessId: null, ttftSloMs: null, tpotSloMs: null };

it("reads headers under their former and present names, the present one first", () => {
  const former = new Map([
    ["x-gateway-inference-objective", "gold"],
    ["x-gateway-inference-fairness-id", "tenant"],
    ["x-slo-ttft-ms", "250"],
    ["x-slo-tpot-ms", "12.5"],
  ]);
  const told = { objective: "gold", fairnessId: "tenant", ttftSloMs: 250, tpotSloMs: 12.5 };
  expect(readTraits(former)).toEqual(told);
  const present = new Map([...former, ["x-llm-d-inference-objective", "lead"]]);
  expect(readTraits(present)).toEqual({ ...told, objective: "lead" });
});

it("takes values that are not of their kind for absent", () => {
  const headers = new Map([
    ["x-slo-ttft-ms", "soon"],
    ["x-slo-tpot-ms", "-1"],
    ["x-llm-d-inference-objective", ""],
  ]);
  expect(readTraits(headers)).toEqual(NONE);
});
