/** `npm run bench [-- --json FILE] [--only NAME] [--quick]`: prints a table, ratios of one run. */
import { writeFileSync } from "node:fs";
import os from "node:os";
import { parseArgs } from "node:util";
import { benchCases } from "./cases.ts";
import { type BenchRow, FULL, QUICK, referenceOf, rowOf, withRatios } from "./harness.ts";

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    only: { type: "string" },
    quick: { type: "boolean", default: false },
  },
});

const all = await benchCases();
const references = new Set(all.filter(({ name }) => name === values.only).map(referenceOf));
const cases = all.filter(
  ({ name }) => values.only === undefined || name === values.only || references.has(name),
);
if (cases.length === 0) {
  process.stderr.write(
    `no row "${values.only}"; rows: ${all.map(({ name }) => name).join(", ")}\n`,
  );
  process.exit(2);
}
const rows: BenchRow[] = [];
for (const each of cases) rows.push(await rowOf(each, values.quick ? QUICK : FULL));
const results = withRatios(rows, cases);
for (const { name, unit, p50, p99, ratio, reference } of results) {
  const figures = `${p50.toFixed(2).padStart(10)} ${(p99?.toFixed(2) ?? "").padStart(10)} ${unit.padEnd(9)}`;
  const compared = ratio === undefined ? "" : `${ratio.toFixed(2)} x ${reference}`;
  process.stdout.write(`${name.padEnd(36)} ${figures} ${compared}\n`);
}
const machine = {
  cpu: os.cpus()[0]?.model ?? "unknown",
  cores: os.cpus().length,
  memoryGiB: Math.round(os.totalmem() / 2 ** 30),
  node: process.version,
};
if (values.json !== undefined) {
  writeFileSync(values.json, `${JSON.stringify({ machine, results }, null, 2)}\n`);
}
