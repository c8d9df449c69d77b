import { expect, it } from "vitest";
import { StoreTaken, storeProblemOf } from "./store-problem.ts";

const withCode = (code: number | string): Error => Object.assign(new Error("as told"), { code });

it.each([
  ["map-full", -30_792],
  ["damaged", -30_797],
  ["damaged", -30_796],
  ["foreign", -30_794],
  ["foreign", -30_793],
  ["disk-full", 28],
  ["disk-full", "ENOSPC"],
  ["disk-full", "EDQUOT"],
  ["unwritable", 13],
  ["unwritable", "EROFS"],
  ["failed", -30_000],
  ["failed", "EMFILE"],
])("names %s by LMDB's or the system's code %s", (problem, code) => {
  expect(storeProblemOf(withCode(code))).toBe(problem);
});

it("names a store that another process has taken, and what has no code", () => {
  expect(storeProblemOf(new StoreTaken())).toBe("taken");
  expect(storeProblemOf("a text")).toBe("failed");
});
