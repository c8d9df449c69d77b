import { describe, expect, it } from "vitest";
import { liveBlock, liveLine, type PhaseState } from "./tour-view.ts";

const STATE: PhaseState = {
  title: "2/2 kvatlas",
  elapsedSeconds: 12.2,
  seconds: 35,
  planned: 300,
  done: 90,
  inFlight: 7,
  failed: 0,
  ttftMs: { count: 95, mean: 480.4, p50: 450, p99: 1260 },
  promptTokens: 600_000,
  cachedTokens: 400_000,
  reusableShare: 0.71,
  pods: [
    { requests: 50, computedTokens: 1, running: 3, waiting: 0 },
    { requests: 25, computedTokens: 1, running: 1, waiting: 2 },
  ],
  router: {
    promptTokens: 1000,
    predictedTokens: 680,
    possibleTokens: 700,
    fallbacks: 0,
    indexBlocks: 21_000,
    lagSeconds: 0.003,
    holders: 2,
    exactHolders: 2,
  },
  isRouted: true,
};

describe("tour view", () => {
  it("shows the state of a phase in words", () => {
    expect(liveBlock(STATE)).toMatchInlineSnapshot(`
      [
        "  2/2 kvatlas: 12 s of 35 s",
        "  requests             90 of 300 answered, 7 in flight, 0 failed",
        "  time to first token  mean 480 ms, half within 450 ms, 99 % within 1.26 s",
        "  hit rate             67 % of prompt tokens came from a cache",
        "  against              68 % predicted, 70 % held by some pod, 71 % reusable with endless memory",
        "  tokens saved         400,000 = 40.0 GPU-seconds of prefill",
        "  pod 1                #################### 50 requests, 3 running, 0 waiting",
        "  pod 2                ##########.......... 25 requests, 1 running, 2 waiting",
        "  index                21,000 blocks, 2 of 2 pods known exactly, 3 ms behind",
      ]
    `);
    expect(liveLine(STATE)).toMatchInlineSnapshot(
      `"  2/2 kvatlas: 12 s of 35 s | 90 done, 7 in flight, 0 failed | first token mean 480 ms, p99 1.26 s | hit rate 67 % of 70 % possible | 400,000 tokens saved | per pod 50/25 | index 21,000 blocks, 3 ms behind"`,
    );
  });

  it("says so when nothing is known yet, or the arrivals are over", () => {
    const early: PhaseState = {
      ...STATE,
      elapsedSeconds: 40,
      ttftMs: { count: 0, mean: 0, p50: 0, p99: 0 },
      promptTokens: 0,
      cachedTokens: 0,
      router: null,
      pods: [{ requests: 0, computedTokens: 0, running: 0, waiting: 0 }],
    };
    const text = [...liveBlock(early), liveLine(early)].join("\n");
    expect(text).toContain("40 s, waiting for the last answers");
    expect(text).toContain("no answer yet");
    expect(text).toContain("the router did not answer in time");
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
  });
});
