import { describe, expect, it } from "vitest";
import { PromMeter } from "../../observe/prom-meter.ts";
import { readRouterNumbers, routerNumbersSince } from "./router-metrics.ts";

describe("router metrics", () => {
  it("reads what the router's own meter writes", async () => {
    const meter = new PromMeter();
    meter.count("kvatlas_prompt_tokens_total", {}, 1000);
    meter.count("kvatlas_predicted_tokens_total", {}, 600);
    meter.count("kvatlas_possible_tokens_total", {}, 700);
    meter.count("kvatlas_extproc_fallbacks_total", { reason: "deadline" }, 2);
    meter.count("kvatlas_extproc_fallbacks_total", { reason: "failed" }, 1);
    meter.gauge("kvatlas_index_blocks", {}, 42);
    meter.gauge("kvatlas_index_lag_seconds", { endpoint: "127.0.0.1:1" }, 0.002);
    meter.gauge("kvatlas_index_lag_seconds", { endpoint: "127.0.0.1:2" }, 0.25);
    const holder = { rank: "0", reason: "" };
    meter.gauge("kvatlas_holder_state", { ...holder, endpoint: "a:1", state: "EXACT" }, 1);
    meter.gauge("kvatlas_holder_state", { ...holder, endpoint: "a:2", state: "DEGRADED" }, 1);
    const { body } = await meter.text();
    expect(readRouterNumbers(body)).toEqual({
      promptTokens: 1000,
      predictedTokens: 600,
      possibleTokens: 700,
      fallbacks: 3,
      indexBlocks: 42,
      lagSeconds: 0.25,
      holders: 2,
      exactHolders: 1,
    });
  });

  it("takes absent metrics and other lines as nothing", () => {
    const numbers = readRouterNumbers("# HELP x y\nnonsense\nkvatlas_index_blocks NaN\n");
    expect(Object.values(numbers).every((value) => value === 0)).toBe(true);
  });

  it("subtracts counters and keeps gauges", () => {
    const before = readRouterNumbers("kvatlas_prompt_tokens_total 10\nkvatlas_index_blocks 5\n");
    const now = readRouterNumbers("kvatlas_prompt_tokens_total 30\nkvatlas_index_blocks 7\n");
    const since = routerNumbersSince(now, before);
    expect([since.promptTokens, since.indexBlocks]).toEqual([20, 7]);
  });
});
