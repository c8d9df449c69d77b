/** Results of a comparison as rows of cells. Pure. */
import type { ComparisonRow } from "./compare-policies.ts";

const TIMES = ["MEAN s", "P50 s", "P99 s"];
const HEAD = ["POLICY", ...TIMES, "HIT RATE", "MAX/MEAN LOAD", "GOODPUT", "HELD", "LOST"];

export function comparisonTable(rows: readonly ComparisonRow[]): string[][] {
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
  return [HEAD, ...cells];
}
