/** `kvatlas simulate` as a simulator meets it: a process for each replica, the same as in process. */
import { expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { policyNamed, runPolicy } from "../../src/lab/compare/compare-policies.ts";
import { drawFamily, FAMILIES } from "../../src/lab/compare/families.ts";

const BIN = new URL("../../bin/kvatlas.js", import.meta.url).pathname;
const COMMAND = `command:"${process.execPath}" "${BIN}" simulate`;

it.each(["churn", "pd", "replicas-shared"])(
  "%s: decides as in process",
  async (name) => {
    const family = FAMILIES.find((known) => known.name === name);
    const beside = policyNamed(COMMAND, nodeClock);
    const inProcess = policyNamed("kvatlas", nodeClock);
    if (family === undefined || beside === null || inProcess === null) throw new Error(name);
    const world = { ...drawFamily(family, { requests: 300, seed: 2 }), sloSeconds: 2 };
    const row = await runPolicy(beside, world);
    expect({ ...row, policy: "kvatlas" }).toEqual(await runPolicy(inProcess, world));
    expect(row.lost).toBe(0);
  },
  60_000,
);
