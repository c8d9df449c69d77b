/** `npm run crash -- [--kills N] [--seed N]`: kill -9 at random moments of writing the store. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { seededRandom } from "../src/core/random.ts";
import { runCrashes } from "../test/harness/crash-run.ts";

const { values } = parseArgs({
  options: { kills: { type: "string", default: "1000" }, seed: { type: "string", default: "1" } },
});
const folder = mkdtempSync(join(tmpdir(), "kvatlas-crash-"));
try {
  const { kills, lives, seq } = await runCrashes({
    folder: join(folder, "store"),
    kills: Number(values.kills),
    random: seededRandom(Number(values.seed)),
    onKill: (done) => {
      if (done % 50 === 0) process.stdout.write(`${done} kills\n`);
    },
  });
  process.stdout.write(
    `${kills} kills, ${lives} lives that wrote, sequence ${seq}: no store was corrupt, no cursor ahead\n`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
