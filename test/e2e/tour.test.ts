/** The main job as a user runs it: a process of its own, with real parts where they can be had. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { runToEnd } from "../../src/lab/process-run.ts";
import { requireBinary } from "../harness/binaries.ts";
import { waitUntil } from "../harness/wait-until.ts";

const ENTRY = fileURLToPath(new URL("../../bin/kvatlas.js", import.meta.url));
const SHORT = ["--seconds", "4", "--engines", "3", "--plain", "--listen", "127.0.0.1:0"];
const BUILT_IN = ["--no-envoy", "--no-nats"];
const RUN_MS_MAX = 55_000;

const envoy = await requireBinary("envoy");
const nats = await requireBinary("nats-server");
const isMissing = envoy.isMissing || nats.isMissing;
const folder = mkdtempSync(join(tmpdir(), "kvatlas-tour-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Tour {
  readonly child: ChildProcess;
  /** Its temporary files; the command lines of its children name it. */
  readonly temp: string;
  readonly output: () => string;
  /** The exit code. */
  readonly ended: Promise<number | null>;
}

function startTour(args: readonly string[]): Tour {
  const temp = mkdtempSync(join(folder, "run-"));
  const child = spawn(process.execPath, [ENTRY, "tour", ...SHORT, ...args], {
    env: { ...process.env, TMPDIR: temp },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      output += bytes.toString();
    });
  }
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, temp, output: () => output, ended };
}

/** Command lines of all processes that work in a folder. */
async function processesIn(temp: string): Promise<string[]> {
  return (await commandLines()).filter((line) => line.includes(temp));
}

async function commandLines(): Promise<string[]> {
  if (!existsSync("/proc/self/cmdline")) {
    return (await runToEnd("ps", ["-A", "-o", "args="], 5000)).output.split("\n");
  }
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch {
        // It has ended since the folder was listed.
        return "";
      }
    });
}

async function expectNothingLeft({ temp }: Tour): Promise<void> {
  expect(await processesIn(temp)).toEqual([]);
  expect(readdirSync(temp)).toEqual([]);
}

async function expectComparison(tour: Tour): Promise<void> {
  const code = await tour.ended;
  const output = tour.output();
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining("round robin") });
  expect(output).toMatch(/time to first token, mean +\S+ m?s +\S+ m?s/);
  expect(output).toMatch(/requests failed +0 +0/);
  expect(output).toMatch(/as soon on average|no clear difference|NOT better/);
  expect(output).not.toMatch(/NaN|undefined|Warning|The index still holds|by load alone/);
  await expectNothingLeft(tour);
}

describe.concurrent("kvatlas tour", () => {
  it.skipIf(isMissing)(
    `compares through Envoy and NATS${envoy.note}${nats.note}`,
    async () => {
      const tour = startTour([]);
      await expectComparison(tour);
      expect(tour.output()).toMatch(/envoy \d[\d.]+: stands in front/);
      expect(tour.output()).toMatch(/nats-server \d[\d.]+: carries the KV events/);
    },
    RUN_MS_MAX,
  );

  it(
    "compares with the built-in client and direct events, and says so",
    async () => {
      const tour = startTour(BUILT_IN);
      await expectComparison(tour);
      expect(tour.output()).toContain("no envoy (not wanted): the built-in client");
      expect(tour.output()).toContain("no nats-server (not wanted): KV events go straight");
    },
    RUN_MS_MAX,
  );

  it(
    "sends a trace",
    async () => {
      const trace = join(folder, "trace.jsonl");
      const lines = Array.from({ length: 24 }, (_, index) => {
        const conversation = 100 * (1 + (index % 8));
        const turn = Math.floor(index / 8);
        const hash_ids = [0, ...Array.from({ length: turn + 3 }, (_, id) => conversation + id)];
        const input_length = hash_ids.length * 512 - 100;
        return JSON.stringify({
          timestamp: index * 1000,
          input_length,
          output_length: 8,
          hash_ids,
        });
      });
      writeFileSync(trace, `${lines.join("\n")}\n`);
      const tour = startTour(["--trace", trace]);
      await expectComparison(tour);
      expect(tour.output()).toContain("24 of the trace's 24 requests");
      expect(tour.output()).toMatch(/requests answered +24 +24/);
    },
    RUN_MS_MAX,
  );

  it(
    "ends everything on Ctrl-C in the middle, with exit code 130",
    async () => {
      const tour = startTour(["--seconds", "30"]);
      await waitUntil("the first phase", () => tour.output().includes("Phase 1 of 2"), 20_000);
      expect((await processesIn(tour.temp)).length).toBeGreaterThan(0);
      await waitUntil("requests under way", () => tour.output().includes(" in flight"), 20_000);
      const startMs = nodeClock.nowMs();
      tour.child.kill("SIGINT");
      expect(await tour.ended).toBe(130);
      expect(nodeClock.nowMs() - startMs).toBeLessThan(6000);
      await expectNothingLeft(tour);
    },
    RUN_MS_MAX,
  );

  it(
    "runs on with --keep until Ctrl-C, which is then a good end",
    async () => {
      const tour = startTour([...BUILT_IN, "--seconds", "1", "--keep"]);
      await waitUntil("the addresses", () => tour.output().includes("curl -s"), 40_000);
      const address = /http:\/\/(\S+)\/readyz/.exec(tour.output())?.[1];
      expect((await fetch(`http://${address}/readyz`)).status).toBe(200);
      tour.child.kill("SIGINT");
      expect(await tour.ended).toBe(0);
      await expectNothingLeft(tour);
    },
    RUN_MS_MAX,
  );

  it("names file and line of a bad trace", async () => {
    const trace = join(folder, "bad.jsonl");
    writeFileSync(trace, '{"timestamp": 1}\n');
    const tour = startTour(["--trace", trace]);
    expect(await tour.ended).toBe(2);
    expect(tour.output()).toContain(`${trace}:1: input_length: `);
    await expectNothingLeft(tour);
  });
});
