import { expect, it } from "vitest";
import { endpointId } from "../core/ids.ts";
import { ExpectedEvents } from "./expected-events.ts";

const pod = endpointId("10.0.0.1:8000");

it("an endpoint that answers and says nothing is silent after a while, until it is heard", () => {
  const expected = new ExpectedEvents();
  const heardMs = 500;
  expected.answered(pod, { heardMs, nowMs: 5000, dispatchedMs: 1000 });
  expected.answered(pod, { heardMs, nowMs: 9000, dispatchedMs: 2000 });
  expect(expected.silence(pod, { heardMs: () => heardMs, nowMs: 34_999 })).toBeNull();
  expect(expected.silence(pod, { heardMs: () => heardMs, nowMs: 35_000 })).toEqual({
    requests: 2,
    silentMs: 30_000,
  });
  expect(expected.silence(pod, { heardMs: () => 40_000, nowMs: 40_001 })).toBeNull();
  expect(expected.silence(pod, { heardMs: () => 40_000, nowMs: 90_000 })).toBeNull();
});

it("an event said before a long answer ended settles it", () => {
  const expected = new ExpectedEvents();
  expected.answered(pod, { heardMs: 1100, nowMs: 60_000, dispatchedMs: 1000 });
  expect(expected.silence(pod, { heardMs: () => 1100, nowMs: 100_000 })).toBeNull();
});

it("an endpoint that was never heard is silent too, and forgotten when it leaves", () => {
  const expected = new ExpectedEvents();
  expected.answered(pod, { heardMs: null, nowMs: 0, dispatchedMs: 0 });
  expect(expected.silence(pod, { heardMs: () => null, nowMs: 30_000 })).not.toBeNull();
  expected.keep(new Set());
  expect(expected.silence(pod, { heardMs: () => null, nowMs: 30_000 })).toBeNull();
});
