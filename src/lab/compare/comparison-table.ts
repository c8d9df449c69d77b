/** Results of a comparison as lines of text. Pure. */
import type { ComparisonRow } from "./compare-policies.ts";

const HEAD = [
  "POLICY",
  "MEAN s",
  "P50 s",
  "P99 s",
  "HIT RATE",
  "MAX/MEAN LOAD",
  "GOODPUT",
  "HELD",
  "LOST",
];

export function comparisonTable(rows: readonly ComparisonRow[]): string[] {
  const cells = rows.map((row) => [
    row.policy,
    row.ttftMeanSeconds.toFixed(3),
    row.ttftP50Seconds.toFixed(3),
    row.ttftP99Seconds.toFixed(2),
    row.hitRate.toFixed(3),
    row.maxOverMeanLoad.toFixed(2),
    row.goodput.toFixed(3),
    String(row.heldRequests),
    String(row.lost),
  ]);
  const all = [HEAD, ...cells];
  const widths = HEAD.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all.map((row) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join("  "),
  );
}
