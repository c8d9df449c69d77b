/** The command line of a bench: `[-- --json FILE] [--only NAME] [--quick]`; prints a table. */
import { writeFileSync } from "node:fs";
import os from "node:os";
import { parseArgs } from "node:util";
import {
  type BenchCase,
  type BenchRow,
  FULL,
  QUICK,
  referenceOf,
  rowOf,
  type ValueCase,
  withRatios,
} from "./harness.ts";

/** Measures the rows that the command line asks for: all, or one and the row it is compared with. */
export async function runBench(all: readonly (BenchCase | ValueCase)[]): Promise<void> {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      only: { type: "string" },
      quick: { type: "boolean", default: false },
    },
  });
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
  for (const row of results) process.stdout.write(lineOf(row));
  if (values.json === undefined) return;
  writeFileSync(values.json, `${JSON.stringify({ machine: machine(), results }, null, 2)}\n`);
}

function lineOf({ name, unit, p50, p99, ratio, reference }: BenchRow): string {
  const figures = `${p50.toFixed(2).padStart(10)} ${(p99?.toFixed(2) ?? "").padStart(10)} ${unit.padEnd(10)}`;
  const compared = ratio === undefined ? "" : `${ratio.toFixed(2)} x ${reference}`;
  return `${name.padEnd(36)} ${figures} ${compared}\n`;
}

function machine(): Readonly<Record<string, unknown>> {
  return {
    cpu: os.cpus()[0]?.model ?? "unknown",
    cores: os.cpus().length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    node: process.version,
  };
}
