/** Random histories through the write path, against the brute-force model of test/chaos. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { createBlockHasher } from "../src/keys/block-hasher.ts";
import { ChaosContent } from "./chaos/chaos-content.ts";
import { type HistoryDeps, MODEL } from "./chaos/history.ts";
import { runHistory } from "./chaos/run-history.ts";
import { keysByDefinition } from "./harness/golden-holdings.ts";

const KEY_SEED = 3;
const HISTORIES = 150;
const script = new URL("../scripts/chaos.ts", import.meta.url).pathname;
const seedsOfBugs = JSON.parse(
  readFileSync(new URL("./chaos/seeds.json", import.meta.url), "utf8"),
) as readonly number[];

let deps: HistoryDeps;
beforeAll(async () => {
  deps = {
    hasher: await createBlockHasher(KEY_SEED),
    content: new ChaosContent({ keysOf: await keysByDefinition(KEY_SEED), model: MODEL }),
  };
});

describe("any history of losses, repeats, restarts and damage", { timeout: 120_000 }, () => {
  it("ends as the engines are, and is EXACT at no time when it is not", () => {
    let exactClaims = 0;
    for (let seed = 1; seed <= HISTORIES; seed += 1) {
      const outcome = runHistory(seed, deps);
      expect(outcome.problem, `npm run chaos -- --seed ${seed}`).toBeNull();
      exactClaims += outcome.exactClaims;
    }
    // What is never claimed is never wrong.
    expect(exactClaims).toBeGreaterThan(8 * HISTORIES);
  });

  it.each(seedsOfBugs)("does so with seed %i, which found a bug once", (seed) => {
    expect(runHistory(seed, deps, "any").problem).toBeNull();
  });
});

it("npm run chaos repeats a history by its seed", { timeout: 60_000 }, () => {
  const run = () => spawnSync(process.execPath, [script, "--seed", "7"], { encoding: "utf8" });
  const [first, again] = [run(), run()];
  expect(first.status).toBe(0);
  const digest = /digest ([0-9a-f]{16})$/m;
  expect(digest.exec(first.stdout)?.[1]).toBeDefined();
  expect(digest.exec(again.stdout)?.[1]).toBe(digest.exec(first.stdout)?.[1]);
});
