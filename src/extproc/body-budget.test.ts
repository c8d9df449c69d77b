import { expect, it } from "vitest";
import { BodyBudget } from "./body-budget.ts";

it("bounds the bytes of all threads that share it", () => {
  const memory = new SharedArrayBuffer(2 * Float64Array.BYTES_PER_ELEMENT);
  const [first, second] = [0, 1].map(
    (own) => new BodyBudget(1000, new Float64Array(memory), own),
  ) as [BodyBudget, BodyBudget];
  expect(first.reserve(600)).toBe(true);
  expect(second.reserve(500)).toBe(false);
  expect(second.reserve(400)).toBe(true);
  expect(first.reserve(1)).toBe(false);
  first.release(600);
  expect(second.bytes).toBe(400);
  expect(second.reserve(600)).toBe(true);
});
