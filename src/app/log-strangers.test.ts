import { expect, it } from "vitest";
import { endpointId, type Holder } from "../core/ids.ts";
import { JOINING_MAX, LEFT_MAX, LogStrangers } from "./log-strangers.ts";

const pod = (number: number, rank = 0): Holder => ({
  ...{ endpointId: endpointId(`10.0.${number >> 8}.${number & 255}:8000`), rank },
});

it("admits the fleet and who may join it, and nobody who has left it", () => {
  const strangers = new LogStrangers();
  expect(strangers.admits(pod(1))).toBe(true);
  strangers.reconcile([pod(1), pod(2)]);
  strangers.reconcile([pod(1)]);
  expect([1, 2, 3].map((number) => strangers.admits(pod(number)))).toEqual([true, false, true]);
  expect(strangers.admits(pod(2, 1))).toBe(true);
  strangers.reconcile([pod(2)]);
  expect([1, 2].map((number) => strangers.admits(pod(number)))).toEqual([false, true]);
});

it("admits no more strangers than may join at once", () => {
  const strangers = new LogStrangers();
  strangers.reconcile([]);
  const all = Array.from({ length: JOINING_MAX + 1 }, (_, number) => pod(number));
  expect(all.filter((each) => strangers.admits(each))).toHaveLength(JOINING_MAX);
  expect(strangers.admits(pod(0))).toBe(true);
  strangers.reconcile([]);
  expect(strangers.admits(pod(JOINING_MAX))).toBe(true);
});

it("forgets the oldest of those that have left", () => {
  const strangers = new LogStrangers();
  strangers.reconcile(Array.from({ length: LEFT_MAX + 1 }, (_, number) => pod(number)));
  strangers.reconcile([]);
  expect([0, 1, LEFT_MAX].map((number) => strangers.admits(pod(number)))).toEqual([
    ...[true, false, false],
  ]);
});
