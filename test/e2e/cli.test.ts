/** The command line as a user meets it: exit codes, messages, start and end of the real process. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { freePort } from "../harness/free-port.ts";
import { waitUntil } from "../harness/wait-until.ts";

const BIN = new URL("../../bin/kvatlas.js", import.meta.url).pathname;

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

function run(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [BIN, ...args], (_, stdout, stderr) => {
      resolve({ code: child.exitCode, output: stdout + stderr });
    });
  });
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once("exit", (code) => resolve(code)));
}

let folder: string;
let engine: LabEngine;

/** Writes both files of a configuration; returns the path of kvatlas.yaml. */
function write(config: string, endpoints = "endpoints: []\n"): string {
  writeFileSync(join(folder, "endpoints.yaml"), endpoints);
  writeFileSync(join(folder, "kvatlas.yaml"), config);
  return join(folder, "kvatlas.yaml");
}

const endpointsOf = (lab: LabEngine): string =>
  `endpoints:\n  - name: pod-0\n    address: ${lab.address}\n` +
  `    kvEvents: { address: "${lab.kvEventsAddress}" }\n`;

const servingConfig = (extProcPort: number, adminPort: number): string =>
  `model: lab-8b\nindex: { path: null }\nextProc:\n  listen: 127.0.0.1:${extProcPort}\n` +
  `  healthListen: 127.0.0.1:0\n  drainNoticeMs: 0\nquery: { listen: "127.0.0.1:0" }\nobserve: { adminListen: "127.0.0.1:${adminPort}" }\n`;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kvatlas-cli-"));
  engine = await startLabEngine({ timeScale: 0 }, { clock: nodeClock });
});
afterAll(async () => {
  await engine.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe("kvatlas", () => {
  it("helps, and says its version", async () => {
    const help = await run("--help");
    expect(help.code).toBe(0);
    for (const command of ["serve", "config", "tour"]) expect(help.output).toContain(command);
    expect(await run("--version")).toMatchObject({ code: 0, output: expect.stringMatching(/^\d/) });
    expect(await run("nonsense")).toMatchObject({ code: 2 });
  });

  it("config check accepts a good file, and names file, place, value and what is expected", async () => {
    const good = await run("config", "check", write("model: lab-8b\n", endpointsOf(engine)));
    expect(good).toMatchObject({ code: 0, output: expect.stringContaining("ok, 1 endpoints") });

    const file = write("model: lab-8b\nfleet:\n  scrapeMs: fast\nroutr: {}\n");
    const bad = await run("config", "check", file);
    expect(bad.code).toBe(2);
    expect(bad.output).toContain(`${file}:3:13: fleet.scrapeMs: got "fast", expected`);
    expect(bad.output).toMatch(/:4:1: routr: .*router/);
    expect(bad.output).toContain("ERR_CONFIG_INVALID");

    const badEndpoint = "endpoints:\n  - name: pod-0\n    address: nowhere\n";
    const wrong = await run("config", "check", write("model: lab-8b\n", badEndpoint));
    expect(wrong.code).toBe(2);
    expect(wrong.output).toMatch(/endpoints\.yaml:3:14: endpoints\[0\]\.address: got "nowhere"/);

    const missing = await run("config", "check", join(folder, "missing.yaml"));
    expect(missing).toMatchObject({ code: 2, output: expect.stringContaining("UNREADABLE") });
  });

  it("config check refuses what only the start would: missing certificates, a budget below one body", async () => {
    const check = (extProc: string) =>
      run("config", "check", write(`model: lab-8b\nextProc: ${extProc}\n`, endpointsOf(engine)));
    const noFiles = await check("{ tls: { certFile: no.crt, keyFile: no.key } }");
    expect(noFiles).toMatchObject({ code: 2, output: expect.stringContaining("extProc.tls") });
    const small = await check("{ bodyBytesMax: 2048, bodiesBytesMax: 1024 }");
    expect(small).toMatchObject({ code: 2, output: expect.stringContaining("bodiesBytesMax") });
  });

  it("events decode prints a capture, and names the line that is none", async () => {
    const golden = new URL("../golden/vllm-0.33.0/", import.meta.url).pathname;
    const decoded = await run("events", "decode", `${golden}c_reset_prefix_cache.jsonl`);
    expect(decoded.code).toBe(0);
    const [, second] = decoded.output.trim().split("\n");
    expect(JSON.parse(second ?? "")).toMatchObject({ seq: 1, events: [{ type: "cleared" }, {}] });
    const sglang = new URL("../golden/sglang-0.5.23/g_hicache_media.jsonl", import.meta.url)
      .pathname;
    const tiers = await run("events", "decode", sglang);
    expect(tiers.output).toContain('"tier":"shared","medium":"EXTERNAL"');
    expect((await run("events", "decode", sglang, "--engine", "sglang")).output).toBe(tiers.output);
    const bad = await run("events", "decode", write("model: m\n"));
    expect(bad).toMatchObject({
      code: 2,
      output: expect.stringContaining("kvatlas.yaml:1: not JSON"),
    });
  });

  it("events apply prints a line for each prompt, and names the line that is none", async () => {
    const golden = new URL("../golden/sglang-0.5.23/", import.meta.url).pathname;
    const capture = `${golden}j_replay.jsonl`;
    const lines = readFileSync(capture, "utf8").trim().split("\n");
    const file = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const decoded = await run("events", "decode", capture);
    const tokenIds: unknown = JSON.parse(decoded.output.split("\n")[6] ?? "").events[0].tokenIds;
    const prompts = file("prompts.json", JSON.stringify([{ tokenIds }]));
    const apply = (path: string, ...args: string[]): Promise<Ended> =>
      run("events", "apply", path, "--prompts", prompts, ...args);
    const line = (state: string, reason: string | null, gpu: number): Ended => {
      const tokens = { gpu, cpu: 0, nvme: 0, shared: 0, any: gpu };
      return { code: 0, output: `${JSON.stringify({ prompt: 0, state, reason, tokens })}\n` };
    };
    const gap = file("gap.jsonl", [...lines.slice(0, 6), ...lines.slice(8)].join("\n"));
    const replay = ["--replay", `${golden}j_replay.exchanges.json`];
    const [whole, beyond, before, none, empty, open, healed] = await Promise.all([
      apply(capture),
      apply(capture, "--after", "99"),
      apply(capture, "--after", "6"),
      apply(capture, "--after", "0"),
      apply(file("empty.jsonl", "")),
      apply(gap),
      apply(gap, ...replay, "--start", "6"),
    ]);
    expect(whole).toEqual(line("EXACT", null, 32));
    expect(beyond).toEqual(whole);
    expect(before).toEqual(line("EXACT", null, 0));
    expect(none).toEqual(line("DEGRADED", "no-messages", 0));
    expect(empty).toEqual(none);
    expect(open).toEqual(line("DEGRADED", "gap", 0));
    expect(healed).toEqual(whole);

    const [bad, negative, noStart] = await Promise.all([
      apply(file("bad.jsonl", `${lines[0]}\n\n{"seq":1}\n`)),
      apply(capture, "--after", "-1"),
      apply(gap, ...replay, "--start", "77"),
    ]);
    expect(bad).toMatchObject({ code: 2, output: expect.stringContaining("bad.jsonl:3: ") });
    expect(bad.output.split("\n")[0]).toBe(line("DEGRADED", "capture-cut", 0).output.trimEnd());
    expect(negative.code).toBe(2);
    expect(noStart).toMatchObject({ code: 2, output: expect.stringContaining("starts at 77") });
  });

  it.each(["vllm-0.11.2", "vllm-0.33.0"])(
    "events apply takes what a REQ socket heard of %s's replay",
    async (engine) => {
      const golden = new URL(`../golden/${engine}/`, import.meta.url).pathname;
      const lines = readFileSync(`${golden}j_replay.jsonl`, "utf8").trim().split("\n");
      const gap = join(folder, `${engine}.jsonl`);
      writeFileSync(gap, lines.filter((line) => JSON.parse(line).seq !== 7).join("\n"));
      const prompts = join(folder, `${engine}.json`);
      writeFileSync(prompts, '[{"tokenIds":[1]}]');
      const replay = ["--replay", `${golden}j_replay.exchanges.json`, "--start", "7"];
      const { code, output } = await run("events", "apply", gap, "--prompts", prompts, ...replay);
      expect({ code, ...JSON.parse(output) }).toMatchObject({ code: 0, state: "EXACT" });
    },
  );

  it("events keeps what was good of a capture, however it begins and ends", async () => {
    const capture = new URL("../golden/sglang-0.5.23/j_replay.jsonl", import.meta.url).pathname;
    const text = readFileSync(capture, "utf8");
    const cutAt = text.trimEnd().lastIndexOf("\n") + 40;
    const file = (name: string, content: string): string => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const prompts = file("marked.json", '\ufeff[{"tokenIds":[1]}]');
    const apply = (path: string, ...args: string[]): Promise<Ended> =>
      run("events", "apply", path, "--prompts", prompts, ...args);
    const cut = file("cut.jsonl", text.slice(0, cutAt));
    const lines = text.trimEnd().split("\n").length;
    const strange = file("strange.jsonl", `\ufeff${text.replaceAll("\n", "\r\n\n")}`);
    const topic = file("topic.jsonl", '{"topic":"a\u2028b\u0085c","seq":0,"payload_hex":"920090"}');
    const [whole, marked, part, applied, markedApplied, partApplied, before, odd] =
      await Promise.all([
        run("events", "decode", capture),
        run("events", "decode", strange),
        run("events", "decode", cut),
        apply(capture),
        apply(strange),
        apply(cut),
        apply(cut, "--after", String(lines - 1)),
        run("events", "decode", topic),
      ]);
    expect(whole.code).toBe(0);
    expect(marked).toEqual(whole);
    const named = `cut.jsonl:${lines}: not JSON`;
    expect(part).toMatchObject({ code: 2, output: expect.stringContaining(named) });
    expect(part.output.split("\n").slice(0, lines - 1)).toEqual(
      whole.output.split("\n").slice(0, lines - 1),
    );
    expect(applied.output).toContain('"state":"EXACT"');
    expect(markedApplied).toEqual(applied);
    expect(partApplied).toMatchObject({ code: 2, output: expect.stringContaining(named) });
    expect(partApplied.output).toMatch(/^{"prompt":0,"state":"DEGRADED","reason":"capture-cut"/);
    expect(before).toEqual(applied);
    expect(odd).toMatchObject({ code: 0, output: expect.stringContaining('"events":[]') });
  });

  it("names what it would have to ignore or to guess, before it asks or reads anything", async () => {
    const apply = ["events", "apply", "c.jsonl", "--prompts", "p.json"];
    const expected: readonly (readonly [string, ...string[]])[] = [
      ["'--block-size", "index", "query", "p.json", "--block-size", "16"],
      ["'--lora", "index", "query", "p.json", "--keys", "--lora", "a"],
      ["'--salt", "index", "query", "p.json", "--keys", "--salt", "s"],
      ["'--start", ...apply, "--start", "3"],
      ["'--zmq", "events", "record", "--zmq", "tcp://h:99999", "-o", join(folder, "none")],
      ["'--zmq", "events", "record", "--zmq", "h:5557", "-o", join(folder, "none")],
      ["'--after", ...apply, "--after", ""],
      ["'--after", ...apply, "--after", "1e2"],
      ["'--pods", "compare", "--pods", "0x10"],
      ["'--key-seed", "prompt", "p.json", "--model", "m", "--key-seed", ""],
      ["Allowed choices are table, json", "index", "query", "p.json", "-o", "yaml"],
      ["Allowed choices are table, json", "index", "stats", "-o", "yaml"],
      ["Allowed choices are table, json", "pods", "-o", "yaml"],
      ["Allowed choices are table, json", "why", "id", "-o", "yaml"],
    ];
    const refused = await Promise.all(expected.map(([, ...args]) => run(...args)));
    for (const [at, [text]] of expected.entries()) {
      expect(refused[at]).toMatchObject({ code: 2, output: expect.stringContaining(text) });
      expect(refused[at]?.output).toMatch(/^error: option '/);
    }
    expect(existsSync(join(folder, "none"))).toBe(false);
  });

  it("compare prints a table and a recommendation, and names what it does not accept", async () => {
    const args = ["--workload", "agent", "--requests", "200", "--pods", "4"];
    const policies = ["--policy", "round-robin", "--policy", "least-requests"];
    // Side by side: each is a process of its own.
    const [table, json, bad, noTrace, failed] = await Promise.all([
      run("compare", ...args, ...policies),
      run("compare", ...args, ...policies, "--json"),
      run("compare", ...args, "--policy", "nonsense"),
      run("compare", join(folder, "none.jsonl"), ...policies),
      run("compare", ...args, "--policy", "command:exit 3"),
    ]);
    expect(table.code).toBe(0);
    expect(table.output).toMatch(/^round-robin +\d/m);
    expect(table.output).toMatch(/^Recommended: (round-robin|least-requests): /m);
    expect(JSON.parse(json.output.slice(json.output.indexOf("{")))).toMatchObject({
      rows: [
        { policy: "round-robin", lost: 0 },
        { policy: "least-requests", lost: 0 },
      ],
    });
    expect(bad).toMatchObject({ code: 2, output: expect.stringContaining('got "nonsense"') });
    expect(noTrace).toMatchObject({ code: 2, output: expect.stringContaining("TRACE_INVALID") });
    expect(failed).toMatchObject({ code: 1, output: expect.stringContaining("ended with 3") });
  }, 60_000);

  it("compare takes routing from a configuration", async () => {
    const file = join(folder, "compare.yaml");
    const extProc = { listen: "127.0.0.1:9002" };
    writeFileSync(file, JSON.stringify({ model: "m", extProc, router: { policy: "round-robin" } }));
    const args = ["--workload", "agent", "--requests", "200", "--pods", "4", "--json"];
    const policies = ["--policy", "kvatlas", "--policy", "round-robin"];
    const { code, output } = await run("compare", ...args, ...policies, "--config", file);
    expect(code).toBe(0);
    const { rows } = JSON.parse(output.slice(output.indexOf("{")));
    expect(rows[0].ttftMeanSeconds).toBe(rows[1].ttftMeanSeconds);
  }, 60_000);

  it("serve refuses a port in use by naming it and the key that sets it", async () => {
    const taken = net.createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const { port } = taken.address() as net.AddressInfo;
    const file = write(servingConfig(await freePort(), port), endpointsOf(engine));
    const refused = await run("serve", "--config", file);
    taken.close();
    expect(refused.code).toBe(2);
    expect(refused.output).toContain(`127.0.0.1:${port} is in use`);
    expect(refused.output).toContain("ERR_PORT_IN_USE");
  });

  it("serve follows its endpoints file, drains on SIGTERM and exits 0", async () => {
    const admin = await freePort();
    const file = write(servingConfig(await freePort(), admin), endpointsOf(engine));
    const child = spawn(process.execPath, [BIN, "serve", "--config", file], { stdio: "pipe" });
    const exit = ended(child);
    const ready = async (): Promise<string> => {
      const answer = await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => null);
      return answer === null ? "" : `${answer.status} ${await answer.text()}`;
    };
    await waitUntil("it is ready", async () => (await ready()).startsWith("200"), 15_000);
    expect((await fetch(`http://127.0.0.1:${admin}/healthz`)).status).toBe(200);
    writeFileSync(join(folder, "endpoints.yaml"), "endpoints: [{ name: x }]\n");
    const metrics = async (): Promise<string> =>
      (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
    await waitUntil("the bad version is counted", async () =>
      (await metrics()).includes('kvatlas_fleet_reloads_total{outcome="invalid"} 1'),
    );
    expect(await ready()).toContain("1 of 1 endpoints are ready");
    const drained = `${endpointsOf(engine)}    draining: true\n`;
    writeFileSync(join(folder, "endpoints.yaml"), drained);
    await waitUntil("the pod drains", async () => (await ready()).includes("0 of 1 endpoints"));

    child.kill("SIGTERM");
    expect(await exit).toBe(0);
  });
});
