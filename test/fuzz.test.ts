/** The fuzzer runs, and finds nothing in a short run. */
import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";
import { ENGINE_NAMES } from "../src/core/engine-name.ts";
import { bodySamples } from "./harness/body-samples.ts";

const script = new URL("../scripts/fuzz.ts", import.meta.url).pathname;

it("sends changed payloads, bodies and conversations through decoders, reader and session", {
  timeout: 60_000,
}, () => {
  const args = ["--cases", "2000", "--seed", "7"];
  // As in package.json: what one message allocates is not collected while it is measured.
  const heap = ["--min-semi-space-size=64", "--max-semi-space-size=64"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...heap, script, ...args], {
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  expect(stdout).toMatch(/^cases: 2000 of \d+ payloads and \d+ bodies/);
  for (const engine of ENGINE_NAMES) expect(stdout).toContain(`${engine} decoded`);
  for (const { path } of bodySamples()) expect(stdout).toContain(`${path} accepted`);
  for (const outcome of ["complete", "routed", "refused", "aborted", "failed"]) {
    expect(stdout).toContain(`ext_proc ${outcome}`);
  }
  expect(Number(/^largest allocation: (\d+) bytes/m.exec(stdout)?.[1])).toBeLessThan(16_777_216);
});
