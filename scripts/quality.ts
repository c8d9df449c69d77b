/**
 * Judges the router's decisions by the scenario families: `npm run quality -- [--only FAMILY]
 * [--requests N] [--seed N] [--seeds N] [--router POLICY]`. Deterministic: the same code prints the same lines.
 */
import { parseArgs } from "node:util";
import { nodeClock } from "../src/core/node-clock.ts";
import { policyNamed } from "../src/lab/compare/compare-policies.ts";
import { FAMILIES } from "../src/lab/compare/families.ts";
import {
  measureQuality,
  QUALITY_HEAD,
  type QualityRow,
  qualityLine,
} from "../src/lab/compare/quality.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [] },
    requests: { type: "string", default: "4000" },
    seed: { type: "string", default: "1" },
    seeds: { type: "string", default: "1" },
    router: { type: "string", default: "kvatlas" },
  },
});

const router = policyNamed(values.router, nodeClock);
const families = FAMILIES.filter(
  ({ name }) => values.only.length === 0 || values.only.some((part) => name.includes(part)),
);
if (router === null || families.length === 0) {
  const names = FAMILIES.map(({ name }) => name).join(", ");
  process.stderr.write(`no such router or family; families: ${names}\n`);
  process.exit(2);
}
process.stdout.write(`${QUALITY_HEAD}\n`);
const rows: QualityRow[] = [];
for (const family of families) {
  for (let more = 0; more < Number(values.seeds); more++) {
    const seed = Number(values.seed) + more;
    const run = { family, requests: Number(values.requests), seed };
    const row = await measureQuality(router, run, nodeClock);
    rows.push(row);
    process.stdout.write(`${qualityLine(row)}\n`);
  }
}
const mean = (figure: (row: QualityRow) => number): string =>
  Math.exp(rows.reduce((sum, row) => sum + Math.log(figure(row)), 0) / rows.length).toFixed(3);
process.stdout.write(
  `geometric means: mean/peer ${mean((row) => row.meanOverPeer)}, ` +
    `mean/oracle ${mean((row) => row.meanOverOracle)}, p99/peer ${mean((row) => row.p99OverPeer)}, ` +
    `p99/oracle ${mean((row) => row.p99OverOracle)}\n`,
);
