/** Prompts on the command line and in the serving router, with a tokenizer in the process. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { RouterProcess } from "../harness/router-process.ts";
import { goldenTokens, tokenizerFolder } from "../harness/tokenizers.ts";
import { waitUntil } from "../harness/wait-until.ts";

const BIN = new URL("../../bin/kvatlas.js", import.meta.url).pathname;
const TOKENIZER = tokenizerFolder("qwen2_5");

const TURN = { role: "user", content: "again" };
const podsSchema = z.object({
  pods: z.array(z.object({ findings: z.array(z.object({ name: z.string() })) })),
});

interface Ended {
  readonly code: number | null;
  readonly lines: readonly Readonly<Record<string, unknown>>[];
  readonly errors: string;
}

function run(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [BIN, ...args], (_, stdout, stderr) => {
      const lines = stdout.split("\n").filter((line) => line !== "");
      const parsed = lines.map((line) => JSON.parse(line));
      resolve({ code: child.exitCode, lines: parsed, errors: stderr });
    });
  });
}

describe("prompts", () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-prompt-"));
  let engine: LabEngine;

  beforeAll(async () => {
    engine = await startLabEngine({ timeScale: 0 }, { clock: nodeClock });
  });
  afterAll(async () => {
    await engine.stop();
    rmSync(folder, { recursive: true });
  });

  function file(name: string, body: unknown): string {
    writeFileSync(join(folder, name), JSON.stringify(body));
    return join(folder, name);
  }

  it("are shown as tokens and keys, the next turn with what is remembered", async () => {
    const { chats } = goldenTokens("qwen2_5");
    const [, chat] = chats;
    if (chat === undefined) throw new Error("no second chat");
    const { request, ids } = chat;
    const messages = [...z.array(z.unknown()).parse(request["messages"]), TURN];
    const first = file("first.json", request);
    const next = file("next.json", { model: "adapter", messages, cache_salt: "tenant" });
    const flags = ["--model", "m", "--block-size", "8", "--tokenizer", TOKENIZER];
    const { code, lines } = await run("prompt", first, next, ...flags);
    expect(code).toBe(0);
    const blocks = Math.floor(ids.length / 8);
    expect(lines).toMatchObject([
      {
        path: "/v1/chat/completions",
        source: "local",
        inputTokens: ids.length,
        blocks,
        lora: null,
      },
      { source: "local", lora: "adapter", cacheSalt: "tenant" },
    ]);
    expect(lines[0]?.["firstTokens"]).toEqual(ids.slice(0, 16));
    const [one, two] = lines;
    expect(one?.["segmentsKnown"]).toBeLessThan(2);
    expect(Number(two?.["segments"]) - Number(two?.["segmentsKnown"])).toBeLessThanOrEqual(2);
    expect(two?.["firstKeys"]).not.toEqual(one?.["firstKeys"]);
  });

  it("are taken for Anthropic's where a system text stands beside the messages", async () => {
    const messages = [{ role: "user", content: "hi" }];
    const said = file("messages.json", { system: "Be brief.", messages, max_tokens: 1 });
    const { lines } = await run("prompt", said, "--model", "m", "--tokenizer", TOKENIZER);
    const chat = { messages: [{ role: "system", content: "Be brief." }, ...messages] };
    const same = await run(
      "prompt",
      file("c.json", chat),
      "--model",
      "m",
      "--tokenizer",
      TOKENIZER,
    );
    expect(lines[0]).toMatchObject({
      path: "/v1/messages",
      firstKeys: same.lines[0]?.["firstKeys"],
    });
    expect(lines[0]?.["firstTokens"]).toEqual(same.lines[0]?.["firstTokens"]);
  });

  it("are shown with the reason where they have no tokens, and mistakes are named", async () => {
    const text = file("text.json", { prompt: "hello" });
    const off = await run("prompt", text, "--model", "m");
    expect(off.lines).toMatchObject([{ source: "none", reason: "tokenize-off", blocks: 0 }]);
    const asked = await run("prompt", text, "--model", "lab-8b", "--engine", engine.address);
    expect(asked.lines).toMatchObject([{ path: "/v1/completions", source: "engine" }]);
    const absent = await run("prompt", join(folder, "absent.json"), "--model", "m");
    expect(absent).toMatchObject({ code: 2 });
    expect(absent.errors).toContain("ERR_PROMPT_INVALID");
    writeFileSync(join(folder, "page.html"), "<html>");
    const page = await run("prompt", join(folder, "page.html"), "--model", "m");
    expect(page).toMatchObject({ code: 2, lines: [] });
    expect(page.errors).toMatch(/page\.html: the body is not.* JSON.*\n?.*ERR_PROMPT_INVALID/);
    const wrong = await run("prompt", text, "--model", "m", "--tokenizer", folder);
    expect(wrong.errors).toContain("ERR_TOKENIZER_UNREADABLE");
  });

  it("are compared with an engine's, which has another tokenizer here", async () => {
    const flags = ["--model", "lab-8b", "--tokenizer", TOKENIZER, "--engine", engine.address];
    const canaries = await run("tokenize", ...flags);
    expect(canaries).toMatchObject({ code: 1, lines: [{ state: "mismatch", cause: "tokenizer" }] });
    const one = await run("tokenize", file("one.json", { prompt: "hello" }), ...flags);
    expect(one).toMatchObject({ code: 1, lines: [{ kind: "different", position: 0 }] });
  });

  it("of a pod with another tokenizer are told by the router that serves it", async () => {
    const kvEvents = { address: engine.kvEventsAddress };
    const router = await RouterProcess.start({
      folder,
      endpoints: [{ name: "pod-1", address: engine.address, kvEvents }],
      config: { prompt: { tokenize: "local", tokenizerPath: TOKENIZER } },
    });
    try {
      expect((await router.ready()).text).toContain("cut at 22 added tokens");
      await waitUntil("the pod is compared", async () => {
        const answer = await fetch(`http://${router.adminAddress}/pods`);
        const { pods } = podsSchema.parse(await answer.json());
        return pods[0]?.findings.some(({ name }) => name === "prompt-mismatch") ?? false;
      });
      const labels = `endpoint="${engine.address}",state="mismatch"`;
      expect(await router.metric("kvatlas_prompt_parity", labels)).toBe(1);
    } finally {
      await router.stop();
    }
  });
});
