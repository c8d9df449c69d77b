import { expect, it } from "vitest";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { AnswerTimes } from "./answer-times.ts";

const usageOf = (completionTokens: number | null) => ({
  ...{ promptTokens: 10, cachedTokens: null, completionTokens },
});

it("measures the time to the first token and between tokens, told or seen to stream", () => {
  const meter = recordingMeter();
  const times = new AnswerTimes(meter);
  for (const [id, usage] of [
    ["told", usageOf(21)],
    ["seen", usageOf(null)],
    ["silent", null],
  ] as const) {
    times.sent(id, 1000);
    times.firstByte(id, 1500);
    times.firstByte(id, 1700);
    times.progressed(id, 16);
    times.progressed(id, 16);
    times.ended(id, { outcome: "complete", usage }, 1500 + 620);
  }
  expect(meter.observed("kvatlas_ttft_seconds")).toEqual([0.5, 0.5, 0.5]);
  expect(meter.observed("kvatlas_tpot_seconds")).toEqual([0.031, 0.02, 0.02]);
});

it("measures nothing of answers that come whole, are cut, or have one token", () => {
  const meter = recordingMeter();
  const times = new AnswerTimes(meter);
  times.firstByte("whole", 10);
  times.ended("whole", { outcome: "complete", usage: usageOf(9) }, 20);
  for (const [id, outcome, tokens] of [
    ["cut", "aborted", 9],
    ["one", "complete", 1],
  ] as const) {
    times.sent(id, 0);
    if (id === "one") times.firstByte(id, 10);
    times.ended(id, { outcome, usage: usageOf(tokens) }, 20);
  }
  expect(meter.observed("kvatlas_ttft_seconds")).toEqual([0.01]);
  expect(meter.observed("kvatlas_tpot_seconds")).toEqual([]);
});
