/**
 * `npm run check:index -- [--minutes N] [--seed N]`: readers of the hot table in two threads against a
 * writer, one history after the other; every answer is looked for among the moments at which it may
 * have been given. Ends with 1 and the seed when one is wrong.
 */
import { parseArgs } from "node:util";
import { nodeClock } from "../src/core/node-clock.ts";
import { checkIndex } from "../test/harness/index-check.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
  },
});
const endMs = nodeClock.nowMs() + 60_000 * Number(values.minutes);
let histories = 0;
let writes = 0;
let answers = 0;
let overlapping = 0;
for (let seed = Number(values.seed); nodeClock.nowMs() < endMs; seed += 1) {
  const options = {
    seed,
    readers: 2,
    overlappingMin: 10_000,
    writesMin: 20_000,
    writesMax: 100_000,
  };
  const report = await checkIndex(options);
  if (report.wrong.length > 0) {
    process.stderr.write(`seed ${seed}: wrong answers\n${report.wrong.join("\n")}\n`);
    process.exit(1);
  }
  histories += 1;
  writes += report.writes;
  answers += report.answers;
  overlapping += report.overlapping;
}
process.stdout.write(
  `${histories} histories, ${writes} writes, ${answers} answers, ${overlapping} of them during a write: all right\n`,
);
