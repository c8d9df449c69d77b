/**
 * `npm run chaos -- [--seed N | --histories N [--first N]] [--kind KIND]`: random histories of engines, losses and
 * restarts through the write path, against a brute-force model (test/chaos).
 *
 * Seeds have kinds (chaos-kinds.ts); --kind makes all of them of one. Prints the failing seeds and a digest of all ends, which is the same for the same seeds; ends with 1
 * when the router holds, or claims to know, what is not so.
 */
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import { nodeClock } from "../src/core/node-clock.ts";
import { createBlockHasher } from "../src/keys/block-hasher.ts";
import { ChaosContent } from "../test/chaos/chaos-content.ts";
import { KINDS } from "../test/chaos/chaos-kinds.ts";
import { MODEL } from "../test/chaos/history.ts";
import { runHistory } from "../test/chaos/run-history.ts";
import { keysByDefinition } from "../test/harness/golden-holdings.ts";

const KEY_SEED = 3;
const FAILURES_MAX = 10;
const PROGRESS_MS = 10_000;

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    histories: { type: "string", default: "1000" },
    first: { type: "string", default: "1" },
    kind: { type: "string" },
  },
});
const first = Number(values.seed ?? values.first);
const histories = values.seed === undefined ? Number(values.histories) : 1;
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(histories) || histories < 1) {
  process.stderr.write("--seed, --first and --histories must be integers, the last one positive\n");
  process.exit(2);
}
const kind = KINDS.find((each) => each === values.kind);
if (values.kind !== undefined && kind === undefined) {
  process.stderr.write(`--kind must be one of ${KINDS.join(", ")}\n`);
  process.exit(2);
}

const keysOf = await keysByDefinition(KEY_SEED);
const deps = {
  hasher: await createBlockHasher(KEY_SEED),
  content: new ChaosContent({ keysOf, model: MODEL }),
};
const all = createHash("sha256");
const startMs = nodeClock.nowMs();
let failures = 0;
let messages = 0;
let exactClaims = 0;
let toldMs = startMs;
let done = 0;
while (done < histories && failures < FAILURES_MAX) {
  const seed = first + done;
  const outcome = runHistory(seed, deps, kind);
  done += 1;
  messages += outcome.messages;
  exactClaims += outcome.exactClaims;
  all.update(outcome.digest);
  if (outcome.problem !== null) {
    failures += 1;
    process.stdout.write(`seed ${seed} failed: ${outcome.problem}\n`);
  }
  if (nodeClock.nowMs() - toldMs < PROGRESS_MS) continue;
  toldMs = nodeClock.nowMs();
  process.stdout.write(`${done} of ${histories} histories, ${failures} failed\n`);
}
const seconds = (nodeClock.nowMs() - startMs) / 1000;
process.stdout.write(
  `${done} histories, ${messages} messages, ${exactClaims} claims of EXACT in ${seconds.toFixed(1)} s: ` +
    `${failures} failed, digest ${all.digest("hex").slice(0, 16)}\n`,
);
process.exitCode = failures === 0 ? 0 : 1;
