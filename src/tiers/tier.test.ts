import { describe, expect, it } from "vitest";
import { loadSeconds } from "./load-cost.ts";
import { TIERS, tierOfMedium, tierOrder } from "./tier.ts";

describe("tiers", () => {
  it("map the engines' media in any case, and never take an unknown one for the GPU", () => {
    const media = {
      gpu: [null, "GPU", "gpu", "DEVICE"],
      cpu: ["CPU", "cpu", "CPU_PINNED", "CPU_TIER1"],
      nvme: ["CPU_TIER2", "DISK", "NVMe", "FS", "STORAGE"],
      shared: ["EXTERNAL", "NETWORK", "REMOTE", "shared"],
      unknown: ["", "TAPE", "__proto__", "constructor"],
    };
    for (const [tier, names] of Object.entries(media)) {
      for (const name of names) expect(tierOfMedium(name), String(name)).toBe(tier);
    }
  });

  it("are ordered from the cheapest to the dearest", () => {
    const cost = {
      kvBytesPerToken: 131_072,
      bytesPerSecond: { cpu: 25e9, nvme: 5e9, shared: 2.5e9 },
    };
    const seconds = [...TIERS]
      .sort((a, b) => tierOrder(a) - tierOrder(b))
      .map((tier) => loadSeconds(cost, tier, 1000));
    expect(seconds).toEqual([...seconds].sort((a, b) => a - b));
    expect(seconds[0]).toBe(0);
    expect(seconds[1]).toBeCloseTo(0.00524, 5);
  });
});
