/** What operations.md reckons on paper follows from the figures of benchmarks.md. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

const page = (name: string): string =>
  readFileSync(new URL(`../docs/${name}.md`, import.meta.url), "utf8");

/** Median of each row, as the tables have it. */
const p50 = new Map(
  [...page("benchmarks").matchAll(/^\| `([\w.-]+)` \| [\w/ ]+ \| ([\d,.]+) \|/gm)].map(
    ([, name = "", figure = ""]) => [name, Number(figure.replaceAll(",", ""))],
  ),
);

function of(row: string): number {
  const figure = p50.get(row);
  if (figure === undefined) throw new Error(`no row ${row}`);
  return figure;
}

const BLOCKS = 1_000e6;
const DISTINCT_BLOCKS = 700e6;
const STORED_PER_SECOND = 1.25e6;
const REMOVED_PER_SECOND = 1.25e6;
const DECISIONS_PER_SECOND = 1000;
const PROMPT_BLOCKS = 2048;

const gigabytes = (bytes: number): string => `some ${Math.round(bytes / 1e9)} GB`;
const cores = (seconds: number): string => `${seconds.toFixed(1)} cores`;

it.each([
  ["index", () => gigabytes(DISTINCT_BLOCKS * of("memory.private"))],
  ["residency", () => gigabytes(BLOCKS * of("memory.copies"))],
  ["handle maps, where no relay has them", () => gigabytes(BLOCKS * of("memory.handle"))],
  ["store", () => gigabytes(BLOCKS * (8 + of("disk.block")))],
  [
    "events",
    () =>
      cores(
        (STORED_PER_SECOND * of("ingest.wire.32") + REMOVED_PER_SECOND * of("ingest.remove.1")) /
          1e9,
      ),
  ],
  [
    "decisions",
    () => {
      const hash = (PROMPT_BLOCKS * of("hash.chain.2048")) / 1000;
      const us = hash + of("match.keys.2048x1024") + of("decide.1024") + of("transport.cpu");
      return cores((DECISIONS_PER_SECOND * us) / 1e6);
    },
  ],
])("the sum of %s is what the bench's rows make it", (part, sum) => {
  const row = page("operations")
    .split("\n")
    .find((line) => line.startsWith(`| ${part} `) && line.split("|").length === 5);
  expect(row?.split("|")[3]?.trim()).toMatch(new RegExp(`^${sum().replaceAll(".", "\\.")}\\b`));
});
