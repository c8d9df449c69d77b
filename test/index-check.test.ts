/** The short form of `npm run check:index`: answers of readers while the table is written. */
import { expect, it } from "vitest";
import { checkIndex } from "./harness/index-check.ts";

const SHORT = { readers: 2, overlappingMin: 2000, writesMin: 3000, writesMax: 40_000 };

it("every answer beside a writer is the plain index's at one moment of the call", async () => {
  const report = await checkIndex({ ...SHORT, seed: 1 });
  expect(report.wrong).toEqual([]);
  expect(report.answers).toBeGreaterThan(0);
}, 60_000);

it("the check finds a table that misses writes", async () => {
  const report = await checkIndex({ ...SHORT, seed: 2, overlappingMin: 1000, omitEvery: 3 });
  expect(report.wrong).not.toEqual([]);
}, 60_000);
